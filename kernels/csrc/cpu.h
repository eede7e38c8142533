// Helpers of the CPU sources.
#pragma once

#include <omp.h>

#include <algorithm>
#include <vector>

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

}  // namespace restyle
