// An Error on its way to another process: {"error": {"code", "what", "why", "fix"}}.
#pragma once

#include <nlohmann/json.hpp>

#include "launcher/core/error.hpp"

namespace berth {

/// Texts are written as escape_for_terminal() shows them, so that bytes that are not UTF-8 survive, readably.
nlohmann::json to_json_value(const Error& error);

/// Whatever is no error record becomes Error{internal} that says so.
Error parse_error(const nlohmann::json& object);

}  // namespace berth
