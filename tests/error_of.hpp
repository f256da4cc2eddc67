// What is refused, as a value to look at.
#pragma once

#include <stdexcept>

#include "launcher/core/error.hpp"

namespace berth::testing {

/// The error that `action` throws; to throw none ends the test.
Error error_of(const auto& action) {
  try {
    action();
  } catch (const Error& error) {
    return error;
  }
  throw std::logic_error("nothing was refused");
}

}  // namespace berth::testing
