// Vectors of sixteen floats, of the sources that scan and resample photographs.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __SSE4_1__
#include <immintrin.h>
#endif

namespace {

using i64 = std::int64_t;
typedef float Lanes __attribute__((vector_size(64)));
typedef std::int32_t Ints __attribute__((vector_size(64)));

constexpr i64 kLanes = 16;

inline Lanes load(const float* from) {
  Lanes lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}

inline Lanes all(float x) { return Lanes{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }

inline void store(float* to, Lanes lanes) { std::memcpy(to, &lanes, sizeof lanes); }

// Sixteen bytes as floats.
#ifdef __AVX512F__
inline Lanes load_bytes(const std::uint8_t* from) {
  __m128i bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return Lanes(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)));
}
#else
inline Lanes load_bytes(const std::uint8_t* from) {
  float values[kLanes];
  for (i64 i = 0; i < kLanes; ++i) values[i] = from[i];
  return load(values);
}
#endif

// a * b + sum, rounded once where the processor can; for what need not be rounded as dlib rounds it.
#ifdef __AVX512F__
inline Lanes fused(Lanes a, Lanes b, Lanes sum) {
  return Lanes(_mm512_fmadd_ps(__m512(a), __m512(b), __m512(sum)));
}
#else
inline Lanes fused(Lanes a, Lanes b, Lanes sum) { return a * b + sum; }
#endif

}  // namespace
