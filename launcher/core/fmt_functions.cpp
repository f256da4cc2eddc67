// Those functions of fmt that are no templates, compiled by its header-only mode and -fkeep-inline-functions, so that
// no program has to load fmt's shared library, which loads the C++ library: `berth run` starts two programs for each
// rank.
#define FMT_HEADER_ONLY
#include <fmt/format.h>
