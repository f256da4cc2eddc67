#include "launcher/core/xml_text.hpp"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "launcher/core/error.hpp"

using namespace berth;
using Catch::Matchers::ContainsSubstring;

namespace {

std::string refusal(std::string_view text) {
  try {
    parse_xml(text, "x.xml", "cannot read it");
  } catch (const Error& error) {
    return error.why;
  }
  return "accepted";
}

}  // namespace

TEST_CASE("Elements come in document order with depth and attributes", "[xml_text]") {
  const auto elements = parse_xml(
      "<?xml version=\"1.0\"?><!DOCTYPE t SYSTEM \"t.dtd\">\n<!-- < --><t a=\"1\"><b c='x>y' d = \"\"/>text</t>",
      "x.xml", "");
  REQUIRE(elements.size() == 2);
  CHECK(elements[0].name == "t");
  CHECK(elements[0].depth == 0);
  CHECK(elements[1].depth == 1);
  CHECK(elements[1].attribute("c") == "x>y");
  CHECK(elements[1].attribute("d").empty());
  CHECK(elements[1].is_empty);
}

TEST_CASE("What is no XML is refused with line and column", "[xml_text]") {
  CHECK_THAT(refusal(""), ContainsSubstring("x.xml:1:1: there is no element"));
  CHECK(refusal("not XML") == "x.xml:1:1: there is text outside the elements: it is not XML");
  CHECK(refusal("<a>\n <b></a>") == "x.xml:2:5: </a> does not close <b>");
  CHECK(refusal("<a><b/>") == "x.xml:1:8: the file ends inside <a>");
  CHECK(refusal("<a/></a>") == "x.xml:1:5: </a> closes nothing");
  CHECK(refusal("<a/><b/>") == "x.xml:1:5: there is a second root element");
  CHECK(refusal("<a b>") == "x.xml:1:5: '=' was expected");
  CHECK(refusal("<a b=c>") == "x.xml:1:6: a quoted value was expected");
  CHECK(refusal("<a b=\"c>") == "x.xml:1:6: the quote is not closed");
  CHECK(refusal("<a b=\"<\"/>") == "x.xml:1:7: there is a '<' in a value");
  CHECK(refusal("<a b=\"1\" b=\"2\"/>") == "x.xml:1:10: attribute 'b' is there twice");
  CHECK(refusal("<a") == "x.xml:1:3: the file ends inside a tag");
  CHECK(refusal("<!-- a") == "x.xml:1:1: '<!--' has no '-->'");
  CHECK_THAT(refusal("<!DOCTYPE a [<!ENTITY b \"bbb\">]><a/>"), ContainsSubstring("declarations"));
  CHECK_THAT(refusal(std::string_view("<a>\0</a>", 8)), ContainsSubstring("x.xml:1:4: there is a NUL byte"));
}

TEST_CASE("Nesting that would overflow a recursive reader is refused", "[xml_text]") {
  std::string deep;
  for (int level = 0; level < 100'000; ++level) deep += "<object>";
  CHECK_THAT(refusal(deep), ContainsSubstring("over 256 levels deep"));
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
