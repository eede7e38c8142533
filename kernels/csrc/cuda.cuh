// Helpers of the CUDA sources. Offsets are 64 bits wide; grids stride, so that any size fits.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "interface.h"

#define RESTYLE_EXPORT extern "C" __attribute__((visibility("default")))

namespace restyle {

RESTYLE_INLINE float load(const __half* p) { return __half2float(*p); }
RESTYLE_INLINE void store(__half* p, float value) { *p = __float2half(value); }

#ifdef __CUDACC__
constexpr int kThreads = 256;
constexpr int kWarp = 32;
constexpr std::int64_t kBlocks = 16384;
#else
// The tests run the kernels on the CPU: see tests/kernels/test_cuda_sources.py.
constexpr int kThreads = 2;
constexpr int kWarp = 2;
constexpr std::int64_t kBlocks = 3;
#endif

inline std::int64_t most_blocks(std::int64_t wanted) { return wanted < kBlocks ? wanted : kBlocks; }

inline std::int64_t blocks_for(std::int64_t count) {
  return most_blocks((count + kThreads - 1) / kThreads);
}

__device__ inline std::int64_t first_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ inline std::int64_t stride() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

// Starts a kernel with kThreads threads in each block.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), std::int64_t blocks, cudaStream_t stream,
            Arguments... arguments) {
#ifdef __CUDACC__
  kernel<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(arguments...);
#else
  run_on_cpu(blocks, kThreads, [&] { kernel(arguments...); });
#endif
}

template <typename Body>
std::int32_t with_dtype(std::int32_t dtype, Body body) {
  switch (dtype) {
    case kFloat32:
      body(float{});
      break;
    case kBFloat16:
      body(bf16{});
      break;
    case kFloat64:
      body(double{});
      break;
    case kFloat16:
      body(__half{});
      break;
    default:
      return kUnknownDType;
  }
  return static_cast<std::int32_t>(cudaGetLastError());
}

// Sum over a block; the result is thread 0's.
template <typename A>
__device__ A block_sum(A value) {
  __shared__ A parts[kThreads];
  parts[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) parts[threadIdx.x] += parts[threadIdx.x + half];
    __syncthreads();
  }
  const A total = parts[0];
  __syncthreads();
  return total;
}

}  // namespace restyle
