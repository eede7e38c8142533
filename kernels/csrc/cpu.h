// Helpers of the CPU sources.
#pragma once

#include <omp.h>

#include <algorithm>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "interface.h"

#define RESTYLE_EXPORT extern "C" __attribute__((visibility("default")))

namespace restyle {

// Below so many values the start of the threads costs more than they bring.
constexpr std::int64_t kSerial = 1 << 14;

// Calls `body` with the storage type that `dtype` names.
template <typename Body>
std::int32_t with_dtype(std::int32_t dtype, Body body) {
  switch (dtype) {
    case kFloat32:
      body(float{});
      return kDone;
    case kBFloat16:
      body(bf16{});
      return kDone;
    case kFloat64:
      body(double{});
      return kDone;
    default:
      return kUnknownDType;
  }
}

// The threads share [0, count) in contiguous parts; `body` is given one part's begin and end.
template <typename Body>
void in_parallel(std::int64_t count, std::int64_t values, Body body) {
#pragma omp parallel if (values > kSerial)
  {
    const std::int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const std::int64_t begin = count * thread / threads, end = count * (thread + 1) / threads;
    if (begin < end) body(begin, end);
  }
}

// Runs of values, apart from the arithmetic: loops over numbers of two widths are slow.
template <typename T, typename A>
void load_run(const T* __restrict from, A* __restrict to, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) to[i] = load(from + i);
}

template <typename T, typename A>
void store_run(T* __restrict to, const A* __restrict from, std::int64_t count) {
#pragma omp simd
  for (std::int64_t i = 0; i < count; ++i) store(to + i, from[i]);
}

#ifdef __AVX512BF16__
// The processor rounds as `store` does; values too small for a normal number become zero.
inline void store_run(bf16* __restrict to, const float* __restrict from, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(from + i));
    memcpy(to + i, &rounded, sizeof rounded);
  }
  for (; i < count; ++i) store(to + i, from[i]);
}
#endif

}  // namespace restyle
