#include "launcher/core/values.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <string>

using namespace berth;

TEST_CASE("PCI addresses", "[values]") {
  const auto address = parse_pci_address("0000:3b:02.1");
  REQUIRE(address);
  CHECK(*address == PciAddress{0, 0x3b, 2, 1});
  CHECK(to_string(*address) == "0000:3b:02.1");
  CHECK(parse_pci_address("3B:1f.7") == PciAddress{0, 0x3b, 0x1f, 7});
  CHECK(to_string(*parse_pci_address("0000:AF:00.0")) == "0000:af:00.0");
  CHECK(to_string(*parse_pci_address("10000:00:00.0")) == "10000:00:00.0");
  CHECK(parse_pci_address("ffffffff:ff:1f.7") == PciAddress{0xffffffff, 0xff, 0x1f, 7});
}

TEST_CASE("PCI addresses that are none", "[values]") {
  const std::string text =
      GENERATE(as<std::string>{}, "", "0000:af:00.0\n", " 0000:af:00.0", "../../", "ffff:ff:1f.8", "0000:af:20.0",
               "000:af:00.0", "00000:af:00.0", "100000000:af:00.0", "0000:af:00", "0000-af:00.0", "0000:af:00.00",
               "0000:gg:00.0", "af:00:0", "0x00:af:00.0", "0000:+f:00.0", "0000:af:-1.0", ":af:00.0", "eth0");
  CAPTURE(text);
  CHECK_FALSE(parse_pci_address(text));
}

TEST_CASE("CPU lists", "[values]") {
  CHECK(to_string(*parse_cpu_list("0-3,8,10-11")) == "0-3,8,10-11");
  CHECK(to_string(*parse_cpu_list("  11,10,8,0-2,1-3\n")) == "0-3,8,10-11");
  CHECK(parse_cpu_list("")->empty());
  CHECK(parse_cpu_list(" \n")->empty());
  CHECK(to_string(CpuSet{}).empty());
  CHECK(parse_cpu_list("0-65535")->count() == kMaxCpu + 1);
  CHECK(to_string(*parse_cpu_list("63-64,127-128")) == "63-64,127-128");
}

TEST_CASE("CPU lists that are none", "[values]") {
  const std::string text = GENERATE(as<std::string>{}, "5-2", "0-99999999", "65536", "18446744073709551616", ",", "1,",
                                    ",1", "1,,2", "-", "1-", "-1", "1--2", "1-2-3", "a", "1 2", "1, 2", "0x1", "+1");
  CAPTURE(text);
  CHECK_FALSE(parse_cpu_list(text));
}

TEST_CASE("CPU sets are sets", "[values]") {
  CpuSet cpus;
  CHECK(cpus.empty());
  CHECK_FALSE(cpus.first());
  cpus.add(200);
  cpus.add(3);
  cpus.add(3);
  CHECK(cpus.count() == 2);
  CHECK(cpus.first() == 3U);
  CHECK(cpus.contains(200));
  CHECK_FALSE(cpus.contains(199));
  CHECK_FALSE(cpus.contains(100000));
  CHECK(cpus.to_vector() == std::vector<unsigned>{3, 200});

  cpus.remove(200);
  cpus.remove(7777);
  CpuSet only_three;
  only_three.add(3);
  CHECK(cpus == only_three);  // equal although one of them was larger
  cpus.remove(3);
  CHECK(cpus == CpuSet{});
  CHECK(CpuSet::range(5, 2).empty());
  for (const unsigned last : {0U, 62U, 63U, 64U, 127U, 128U}) CHECK(CpuSet::range(0, last).count() == last + 1);
  CHECK(CpuSet::range(63, 64).to_vector() == std::vector<unsigned>{63, 64});
}

TEST_CASE("CPU sets combine", "[values]") {
  const CpuSet low = CpuSet::range(0, 99);
  const CpuSet high = CpuSet::range(90, 300);
  CHECK((low | high) == CpuSet::range(0, 300));
  CHECK((low & high) == CpuSet::range(90, 99));
  CHECK((high & low) == CpuSet::range(90, 99));
  CHECK((low - high) == CpuSet::range(0, 89));
  CHECK((high - low) == CpuSet::range(100, 300));
  CHECK((low - low) == CpuSet{});
  CHECK(low.intersects(high));
  CHECK_FALSE(low.intersects(CpuSet::range(100, 300)));
  CHECK(CpuSet::range(90, 99).is_subset_of(high));
  CHECK_FALSE(low.is_subset_of(high));
  CHECK(CpuSet{}.is_subset_of(low));
}

TEST_CASE("MAC addresses", "[values]") {
  const auto mac = parse_mac_address("02:00:5e:AB:cd:0f");
  REQUIRE(mac);
  CHECK(to_string(*mac) == "02:00:5e:ab:cd:0f");
  for (const char* bad : {"", "02:00:5e:ab:cd", "02:00:5e:ab:cd:0f:00", "02-00-5e-ab-cd-0f", "02:00:5e:ab:cd:0g",
                          "02:00:5e:ab:cd:0f\n", "2:0:5e:ab:cd:0f00"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_mac_address(bad));
  }
}

TEST_CASE("IP prefixes", "[values]") {
  const auto v4 = parse_ip_prefix("10.1.2.3/16");
  REQUIRE(v4);
  CHECK(v4->family == IpPrefix::Family::v4);
  CHECK(v4->bytes[3] == 3);
  CHECK(v4->prefix_length == 16);
  CHECK(to_string(*v4) == "10.1.2.3/16");
  CHECK(address_to_string(*v4) == "10.1.2.3");
  const auto v6 = parse_ip_prefix("FD00:0:0::1/64");
  REQUIRE(v6);
  CHECK(v6->family == IpPrefix::Family::v6);
  CHECK(to_string(*v6) == "fd00::1/64");
  CHECK(to_string(*parse_ip_prefix("::/0")) == "::/0");
  CHECK(to_string(*parse_ip_prefix("0.0.0.0/0")) == "0.0.0.0/0");
}

TEST_CASE("IP prefixes that are none", "[values]") {
  const std::string text =
      GENERATE(as<std::string>{}, "", "/", "10.1.2.3", "10.1.2/16", "10.1.2.3/33", "10.1.2.3/", "10.1.2.3/-1",
               "10.1.2.3/08", "10.1.2.256/8", "10.01.2.3/8", "10.1.2.3/16 ", " 10.1.2.3/16", "fd00::1/129",
               "fd00::1%eth0/64", "fd00:::1/64", "host/24", "10.1.2.3/16/16", "10.1.2.3/256");
  CAPTURE(text);
  CHECK_FALSE(parse_ip_prefix(text));
  CHECK_FALSE(parse_ip_prefix(std::string_view("10.1.2.3\0/16", 12)));
}

TEST_CASE("Interface names are those of the kernel", "[values]") {
  CHECK(is_interface_name("rdma0"));
  CHECK(is_interface_name("enp59s0f0np0.15"));  // 15 bytes
  CHECK_FALSE(is_interface_name("enp59s0f0np0v150"));
  for (const std::string_view bad : {"", ".", "..", "a/b", "a:1", "a b", "a\tb", "eth%d", "a\n", "\x1b[2J", "a\xa0"}) {
    CAPTURE(bad);
    CHECK_FALSE(is_interface_name(bad));
  }
  CHECK_FALSE(is_interface_name(std::string_view("a\0b", 3)));
}

TEST_CASE("Absolute paths become plain", "[values]") {
  CHECK(parse_absolute_path("/a//b/./c/") == "/a/b/c");
  CHECK(parse_absolute_path("/") == "/");
  CHECK(parse_absolute_path("///.//") == "/");
  CHECK(parse_absolute_path("/..a/b..") == "/..a/b..");
  for (const std::string_view bad : {"", "a", "./a", "~/a", "/a/../b", "/..", "/a/.."}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_absolute_path(bad));
  }
  CHECK_FALSE(parse_absolute_path(std::string_view("/a\0b", 4)));
}

TEST_CASE("A path is within a directory by whole components", "[values]") {
  CHECK(is_within("/scratch", "/scratch"));
  CHECK(is_within("/scratch/a", "/scratch"));
  CHECK(is_within("/scratch/a", "/scratch/"));
  CHECK(is_within("/a", "/"));
  CHECK(is_within("/", "/"));
  CHECK_FALSE(is_within("/scratch2", "/scratch"));
  CHECK_FALSE(is_within("/scratc", "/scratch"));
  CHECK_FALSE(is_within("/", "/scratch"));
  CHECK_FALSE(is_within("scratch", "/"));
  CHECK_FALSE(is_within("", "/"));
}

TEST_CASE("The nearest word", "[values]") {
  const std::vector<std::string> known = {"parents", "park", "pools", "name"};
  CHECK(nearest_word("parnets", known) == "parents");
  CHECK(nearest_word("parent", known) == "parents");
  CHECK(nearest_word("prak", known) == "park");
  CHECK(nearest_word("pool", known) == "pools");
  CHECK_FALSE(nearest_word("gateway", known));
  CHECK_FALSE(nearest_word("", known));
  CHECK_FALSE(nearest_word("parents", {}));
  CHECK_FALSE(nearest_word(std::string(100000, 'p'), known));
}
