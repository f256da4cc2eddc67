#include "launcher/core/error_json.hpp"

namespace berth {

using nlohmann::json;

json to_json_value(const Error& error) {
  return {{"error",
           {{"code", to_string(error.code)},
            {"what", escape_for_terminal(error.what_text)},
            {"why", escape_for_terminal(error.why)},
            {"fix", escape_for_terminal(error.fix)}}}};
}

Error parse_error(const json& object) {
  try {
    const json& inner = object.at("error");
    const auto name = inner.at("code").get<std::string>();
    for (const ErrorCode code : kErrorCodes)
      if (to_string(code) == name)
        return {code, inner.at("what").get<std::string>(), inner.at("why").get<std::string>(),
                inner.at("fix").get<std::string>()};
  } catch (const json::exception&) {  // said below
  }
  return {ErrorCode::internal, "cannot understand what another process of Berth reports",
          "its error record is malformed", "make sure that plugin and broker are of the same version"};
}

}  // namespace berth
