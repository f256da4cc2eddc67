#include "launcher/core/error.hpp"
