#include <bit>

#include "launcher/core/values.hpp"

namespace berth {
namespace {

constexpr unsigned kWordBits = 64;

constexpr std::uint64_t bit_of(unsigned cpu) { return std::uint64_t{1} << cpu % kWordBits; }

}  // namespace

CpuSet CpuSet::range(unsigned first, unsigned last) {
  CpuSet cpus;
  if (first > last) return cpus;
  cpus.words_.resize(last / kWordBits + 1);
  for (std::size_t word = first / kWordBits; word < cpus.words_.size(); ++word) cpus.words_[word] = ~std::uint64_t{0};
  cpus.words_[first / kWordBits] &= ~std::uint64_t{0} << first % kWordBits;
  cpus.words_.back() &= ~std::uint64_t{0} >> (kWordBits - 1 - last % kWordBits);
  return cpus;
}

void CpuSet::add(unsigned cpu) {
  if (words_.size() <= cpu / kWordBits) words_.resize(cpu / kWordBits + 1);
  words_[cpu / kWordBits] |= bit_of(cpu);
}

void CpuSet::remove(unsigned cpu) {
  if (!contains(cpu)) return;
  words_[cpu / kWordBits] &= ~bit_of(cpu);
  trim();
}

bool CpuSet::contains(unsigned cpu) const {
  return cpu / kWordBits < words_.size() && (words_[cpu / kWordBits] & bit_of(cpu)) != 0;
}

unsigned CpuSet::count() const {
  unsigned count = 0;
  for (const std::uint64_t word : words_) count += static_cast<unsigned>(std::popcount(word));
  return count;
}

std::optional<unsigned> CpuSet::first() const {
  for (std::size_t word = 0; word < words_.size(); ++word) {
    if (words_[word] == 0) continue;
    return static_cast<unsigned>(word) * kWordBits + static_cast<unsigned>(std::countr_zero(words_[word]));
  }
  return std::nullopt;
}

std::vector<unsigned> CpuSet::to_vector() const {
  std::vector<unsigned> numbers;
  numbers.reserve(count());
  for (std::size_t word = 0; word < words_.size(); ++word) {
    for (std::uint64_t bits = words_[word]; bits != 0; bits &= bits - 1) {
      numbers.push_back(static_cast<unsigned>(word) * kWordBits + static_cast<unsigned>(std::countr_zero(bits)));
    }
  }
  return numbers;
}

bool CpuSet::is_subset_of(const CpuSet& other) const {
  for (std::size_t word = 0; word < words_.size(); ++word) {
    const std::uint64_t others = word < other.words_.size() ? other.words_[word] : 0;
    if ((words_[word] & ~others) != 0) return false;
  }
  return true;
}

bool CpuSet::intersects(const CpuSet& other) const {
  for (std::size_t word = 0; word < words_.size() && word < other.words_.size(); ++word) {
    if ((words_[word] & other.words_[word]) != 0) return true;
  }
  return false;
}

CpuSet& CpuSet::operator|=(const CpuSet& other) {
  if (words_.size() < other.words_.size()) words_.resize(other.words_.size());
  for (std::size_t word = 0; word < other.words_.size(); ++word) words_[word] |= other.words_[word];
  return *this;
}

CpuSet& CpuSet::operator&=(const CpuSet& other) {
  if (words_.size() > other.words_.size()) words_.resize(other.words_.size());
  for (std::size_t word = 0; word < words_.size(); ++word) words_[word] &= other.words_[word];
  trim();
  return *this;
}

CpuSet& CpuSet::operator-=(const CpuSet& other) {
  for (std::size_t word = 0; word < words_.size() && word < other.words_.size(); ++word) {
    words_[word] &= ~other.words_[word];
  }
  trim();
  return *this;
}

void CpuSet::trim() {
  while (!words_.empty() && words_.back() == 0) words_.pop_back();
}

}  // namespace berth
