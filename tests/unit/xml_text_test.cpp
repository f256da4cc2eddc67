#include "launcher/core/xml_text.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "tests/error_of.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string refusal(std::string_view text) {
  return testing::error_of([&] { parse_xml(text, "x.xml", "cannot read it"); }).why;
}

}  // namespace

TEST_CASE("Elements come in document order with depth, attributes and text", "[xml_text]") {
  const std::string_view text =
      "<?xml version=\"1.0\"?><!DOCTYPE t SYSTEM \"t.dtd\">\n<!-- < --><t a=\"1\"><b c='x>y&amp;&#122;' d = "
      "\"\"/>later</t>";
  const auto elements = parse_xml(text, "x.xml", "");
  REQUIRE(elements.size() == 2);
  CHECK(elements[0].name == "t");
  CHECK(elements[0].depth == 0);
  CHECK(elements[0].text.empty());
  CHECK(text.substr(elements[0].begin) == text.substr(text.find("<t"), elements[0].end - elements[0].begin));
  CHECK(elements[1].depth == 1);
  CHECK(elements[1].attribute("c") == "x>y&z");
  CHECK(elements[1].attribute("d").empty());
  CHECK(text.substr(elements[1].begin, elements[1].end - elements[1].begin) == "<b c='x>y&amp;&#122;' d = \"\"/>");
  CHECK(parse_xml("<a>1 2<b/></a>", "x.xml", "").front().text == "1 2");
}

TEST_CASE("What is no XML is refused with line and column", "[xml_text]") {
  CHECK(refusal("") == "x.xml:1:1: no element found");
  CHECK(refusal("not XML") == "x.xml:1:1: syntax error");
  CHECK(refusal("<a>\n <b></a>") == "x.xml:2:7: mismatched tag");
  CHECK(refusal("<a><b/>") == "x.xml:1:8: no element found");
  CHECK_THAT(refusal("<a/></a>"), ContainsSubstring("x.xml:1:6: "));
  CHECK(refusal("<a/><b/>") == "x.xml:1:5: junk after document element");
  CHECK_THAT(refusal("<a b>"), ContainsSubstring("x.xml:1:5: "));
  CHECK_THAT(refusal("<a b=\"c>"), ContainsSubstring("x.xml:1:"));
  CHECK_THAT(refusal("<a b=\"<\"/>"), ContainsSubstring("x.xml:1:7: "));
  CHECK(refusal("<a b=\"1\" b=\"2\"/>") == "x.xml:1:10: duplicate attribute");
  CHECK_THAT(refusal("<a"), ContainsSubstring("x.xml:1:1: unclosed token"));
  CHECK_THAT(refusal("<!-- a"), ContainsSubstring("x.xml:1:1: "));
  CHECK_THAT(refusal(std::string_view("<a>\0</a>", 8)), ContainsSubstring("x.xml:1:4: "));
  CHECK_THAT(refusal("<a b=\"\xe9\"/>"), ContainsSubstring("x.xml:1:"));
}

TEST_CASE("Entities cannot grow, and nothing outside is read", "[xml_text]") {
  CHECK(refusal("<!DOCTYPE a [<!ENTITY b \"bbb\">]><a c=\"&b;\"/>") ==
        "x.xml:1:13: it has a DOCTYPE with declarations");
  CHECK_THAT(refusal("<!DOCTYPE a [<!ENTITY % b SYSTEM \"/etc/passwd\"> %b;]><a/>"), ContainsSubstring("declarations"));
  CHECK_THAT(refusal("<a>&b;</a>"), ContainsSubstring("undefined entity"));
  CHECK(parse_xml("<!DOCTYPE a SYSTEM \"/etc/passwd\"><a/>", "x.xml", "").size() == 1);
}

TEST_CASE("Text in another encoding than UTF-8 is refused, whatever it says", "[xml_text]") {
  CHECK_THAT(refusal("<?xml version=\"1.0\" encoding=\"ISO-8859-1\"?><a b=\"\xe9\"/>"), ContainsSubstring("x.xml:1:"));
  CHECK(refusal(std::string_view("\xff\xfe<\0a\0/\0>\0", 10)) == "x.xml:1:4: there is a NUL byte: it is not UTF-8");
}

TEST_CASE("Nesting that would overflow a recursive reader is refused", "[xml_text]") {
  std::string deep;
  for (int level = 0; level < 100'000; ++level) deep += "<object>";
  CHECK(refusal(deep) == "x.xml:1:2049: elements are nested over 256 levels deep");
}

TEST_CASE("A shareable topology has lost serial numbers and addresses, and nothing else", "[xml_text]") {
  const std::string text =
      "<topology version=\"2.0\">\n"
      "  <object type=\"Machine\">\n"
      "    <info name=\"DMIProductSerial\" value=\"S3CR3T\"/>\n"
      "    <info name=\"Architecture\" value=\"x86_64\"/>\n"
      "    <info name=\"Address\" value=\"02:00:00:00:00:01\"/><info name=\"LinuxCgroup\" value=\"/user.slice\"/>\n"
      "    <info name=\"Port1State\" value=\"4\"/>\n"
      "    <info name=\"SysImageGUID\" value=\"ec0d:9a03:0078:b5f6\"/>\n"
      "    <info value=\"no name\"/>\n"
      "    <info name=\"DMIBoardSerial\" value=\"S3CR3T\"><info name=\"CPUModel\" value=\"S3CR3T\"/></info>\n"
      "  </object>\n"
      "</topology>\n";
  CHECK(make_shareable_topology(text, "x.xml") ==
        "<topology version=\"2.0\">\n"
        "  <object type=\"Machine\">\n"
        "    <info name=\"Architecture\" value=\"x86_64\"/>\n"
        "    <info name=\"Port1State\" value=\"4\"/>\n"
        "    <info name=\"SysImageGUID\" value=\"ec0d:9a03:0078:b5f6\"/>\n"
        "  </object>\n"
        "</topology>\n");
}
