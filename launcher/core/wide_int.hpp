// Signed integers of many bits, for costs whose levels do not fit into machine words. Pure.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <compare>
#include <cstddef>
#include <cstdint>

namespace berth {

__extension__ using Int128 = __int128;

/// Two's complement. Overflow wraps: whoever computes with it bounds the result first (bit_width()).
template <std::size_t kLimbs>
class WideInt {
 public:
  static constexpr std::size_t kBits = 64 * kLimbs;

  constexpr WideInt() = default;
  constexpr WideInt(std::int64_t value) { limbs_.fill(value < 0 ? ~0ULL : 0), limbs_[0] = static_cast<Limb>(value); }

  constexpr WideInt& operator+=(const WideInt& other) {
    Limb carry = 0;
    for (std::size_t i = 0; i < kLimbs; ++i) {
      const Limb partial = limbs_[i] + other.limbs_[i];
      const Limb sum = partial + carry;
      carry = (partial < limbs_[i] || sum < partial) ? 1 : 0;
      limbs_[i] = sum;
    }
    return *this;
  }
  constexpr WideInt operator-() const {
    WideInt negated = *this;
    for (Limb& limb : negated.limbs_) limb = ~limb;
    return negated += 1;
  }
  constexpr WideInt& operator-=(const WideInt& other) {
    Limb borrow = 0;
    for (std::size_t i = 0; i < kLimbs; ++i) {
      const Limb partial = limbs_[i] - other.limbs_[i];
      const Limb next = (limbs_[i] < other.limbs_[i] || partial < borrow) ? 1 : 0;
      limbs_[i] = partial - borrow;
      borrow = next;
    }
    return *this;
  }
  /// Only of values that are not negative.
  constexpr WideInt& operator*=(std::uint64_t factor) {
    Limb carry = 0;
    for (Limb& limb : limbs_) {
      const Double product = static_cast<Double>(limb) * factor + carry;
      limb = static_cast<Limb>(product);
      carry = static_cast<Limb>(product >> 64U);
    }
    return *this;
  }
  /// Only of values that are not negative.
  constexpr WideInt operator*(const WideInt& other) const {
    WideInt product;
    for (std::size_t i = kLimbs; i-- > 0;) {
      for (std::size_t limb = kLimbs - 1; limb > 0; --limb) product.limbs_[limb] = product.limbs_[limb - 1];
      product.limbs_[0] = 0;
      WideInt partial = *this;
      product += (partial *= other.limbs_[i]);
    }
    return product;
  }
  /// Only of values that are not negative; returns the remainder.
  constexpr std::uint64_t divide(std::uint64_t divisor) {
    Limb rest = 0;
    for (std::size_t i = kLimbs; i-- > 0;) {
      const Double part = (static_cast<Double>(rest) << 64U) | limbs_[i];
      limbs_[i] = static_cast<Limb>(part / divisor);
      rest = static_cast<Limb>(part % divisor);
    }
    return rest;
  }

  friend constexpr WideInt operator+(WideInt a, const WideInt& b) { return a += b; }
  friend constexpr WideInt operator-(WideInt a, const WideInt& b) { return a -= b; }
  friend constexpr WideInt operator*(WideInt a, std::uint64_t factor) { return a *= factor; }
  constexpr bool operator==(const WideInt&) const = default;
  constexpr std::strong_ordering operator<=>(const WideInt& other) const {
    const auto sign = static_cast<std::int64_t>(limbs_.back()) <=> static_cast<std::int64_t>(other.limbs_.back());
    if (sign != 0) return sign;
    for (std::size_t i = kLimbs - 1; i-- > 0;) {
      if (limbs_[i] != other.limbs_[i]) return limbs_[i] <=> other.limbs_[i];
    }
    return std::strong_ordering::equal;
  }

  /// Bits that the value needs without its sign, which must not be negative.
  [[nodiscard]] constexpr std::size_t bit_width() const {
    for (std::size_t i = kLimbs; i-- > 0;) {
      if (limbs_[i] != 0) return i * 64 + static_cast<std::size_t>(std::bit_width(limbs_[i]));
    }
    return 0;
  }
  /// The value in fewer bits, if they suffice.
  template <std::size_t kFewer>
  [[nodiscard]] constexpr WideInt<kFewer> narrow() const {
    WideInt<kFewer> narrowed;
    std::copy_n(limbs_.begin(), kFewer, narrowed.limbs_.begin());
    return narrowed;
  }
  /// The value, if bit_width() is at most 126.
  [[nodiscard]] constexpr Int128 to_int128() const {
    return static_cast<Int128>((static_cast<Double>(limbs_[1]) << 64U) | limbs_[0]);
  }

 private:
  using Limb = std::uint64_t;
  __extension__ using Double = unsigned __int128;
  template <std::size_t>
  friend class WideInt;
  std::array<Limb, kLimbs> limbs_{};  ///< least significant first
};

}  // namespace berth
