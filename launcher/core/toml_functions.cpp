// toml++ itself, instead of its shared library: see fmt_functions.cpp.
#undef TOML_SHARED_LIB
#define TOML_IMPLEMENTATION
#include <toml++/toml.h>
