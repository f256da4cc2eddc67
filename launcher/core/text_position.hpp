// Places in texts, as messages say them. Pure.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace berth {

/// "LINE:COLUMN" of a byte of `text`, both from 1; of its end, if `offset` is beyond.
std::string position_in(std::string_view text, std::size_t offset);

}  // namespace berth
