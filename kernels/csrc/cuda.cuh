// Helpers of the CUDA sources: accesses of 16 bytes, and how work is shared out among threads.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <type_traits>

#include "interface.h"

#define RESTYLE_EXPORT extern "C" __attribute__((visibility("default")))

namespace restyle {

constexpr int kWarp = 32;
constexpr int kThreads = 128;
// With fewer threads in flight a large GPU is not busy.
constexpr std::int64_t kBusy = 1 << 18;

RESTYLE_INLINE float load(const __half* p) { return __half2float(*p); }
RESTYLE_INLINE void store(__half* p, float value) { *p = __float2half(value); }

// Two neighbouring values: a GPU rounds both by one instruction.
template <typename T, typename A>
__device__ inline void store_pair(T* p, A first, A second) {
  store(p, first);
  store(p + 1, second);
}
#ifdef __CUDA_ARCH__
__device__ inline void store_pair(bf16* p, float first, float second) {
  std::uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  memcpy(p, &both, sizeof both);
}
__device__ inline void store_pair(__half* p, float first, float second) {
  const __half2 both = __floats2half2_rn(first, second);
  memcpy(p, &both, sizeof both);
}
#endif

// Values of T in an access of 16 bytes.
template <typename T>
constexpr int kPack = 16 / sizeof(T);

// V neighbouring values, read and written by one access. Words, because a GPU takes a word apart by
// one instruction for each half, and needs two where it has seen the halves before.
template <typename T, int V>
struct alignas(sizeof(T) * V) Values {
  static constexpr bool kWords = sizeof(T) * V % sizeof(std::uint32_t) == 0;
  using Part = std::conditional_t<kWords, std::uint32_t, T>;
  Part parts[sizeof(T) * V / sizeof(Part)];
};

// One of them in the compute type.
template <typename T, int V>
__device__ inline compute_t<T> value_of(const Values<T, V>& values, int i) {
  if constexpr (std::is_same_v<T, bf16> && V > 1) {
    const std::uint32_t word = values.parts[i / 2];
    const std::uint32_t bits = i % 2 == 0 ? word << 16 : word & 0xffff0000u;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
  } else {
    T value;
    memcpy(&value, reinterpret_cast<const char*>(values.parts) + i * sizeof(T), sizeof value);
    return load(&value);
  }
}

template <int V, typename T>
__device__ inline Values<T, V> fetch(const T* p) {
  if constexpr (sizeof(T) * V == sizeof(uint4)) {
    const uint4 all = *reinterpret_cast<const uint4*>(p);
    return {{all.x, all.y, all.z, all.w}};
  } else {
    return *reinterpret_cast<const Values<T, V>*>(p);
  }
}

template <int V, typename T>
__device__ inline Values<T, V> fetch_if(bool there, const T* p) {
  Values<T, V> found;
  memset(&found, 0, sizeof found);
  if (there) found = fetch<V>(p);
  return found;
}

template <typename T, typename A, int V>
__device__ inline void put(T* p, const A (&values)[V]) {
  Values<T, V> out;
  if constexpr (V == 1) {
    T only;
    store(&only, values[0]);
    memcpy(out.parts, &only, sizeof only);
  } else {
#pragma unroll
    for (int i = 0; i < V; i += 2) {
      T pair[2];
      store_pair(pair, values[i], values[i + 1]);
      memcpy(reinterpret_cast<char*>(out.parts) + i * sizeof(T), pair, sizeof pair);
    }
  }
#ifdef __CUDA_ARCH__
  // Of a structure the compiler would write the parts one by one where it likes that better.
  if constexpr (sizeof(out) == 16) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(out.parts[0]),
                 "r"(out.parts[1]), "r"(out.parts[2]), "r"(out.parts[3])
                 : "memory");
    return;
  }
#endif
  *reinterpret_cast<Values<T, V>*>(p) = out;
}

// V neighbours of a vector in the compute type, times a factor; `otherwise` where there is none.
template <int V, typename A>
__device__ inline void vector_of(const void* vector, std::int64_t at, A factor, A otherwise,
                                 A (&out)[V]) {
#pragma unroll
  for (int i = 0; i < V; ++i)
    out[i] = vector == nullptr ? otherwise : static_cast<const A*>(vector)[at + i] * factor;
}

inline bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

// Calls `body` with the number of values in an access: as many as 16 bytes hold, or one.
template <typename T, typename Body>
void with_pack(bool packed, Body body) {
  if (packed)
    body(std::integral_constant<int, kPack<T>>{});
  else
    body(std::integral_constant<int, 1>{});
}

inline std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// Threads that walk down images: each takes an item, which is some columns and channels, in
// `strip` rows of an image.
struct Strips {
  unsigned items, rows, strip, strips, batch;

  // Long strips read little twice and fetch vectors rarely; many of them keep a GPU busy.
  static Strips of(std::int64_t items, std::int64_t rows, std::int64_t batch, std::int64_t least,
                   std::int64_t most) {
    std::int64_t strip = most;
    while (strip > least && items * batch * ceil_div(rows, strip) < kBusy) strip /= 2;
    return {static_cast<unsigned>(items), static_cast<unsigned>(rows),
            static_cast<unsigned>(strip), static_cast<unsigned>(ceil_div(rows, strip)),
            static_cast<unsigned>(batch)};
  }
  static bool fits(std::int64_t items, std::int64_t rows, std::int64_t batch) {
    return items <= INT32_MAX && rows <= INT32_MAX && batch <= INT32_MAX &&
           ceil_div(items, kThreads) <= INT32_MAX / (rows * batch);
  }
  std::int64_t blocks() const {
    return ceil_div(items, kThreads) * static_cast<std::int64_t>(strips) * batch;
  }

  struct Place {
    bool inside;
    int item, first, end;
    std::int64_t image;
  };
  __device__ Place place() const {
    const unsigned across = (items + kThreads - 1) / kThreads;
    const unsigned tall = blockIdx.x / across;
    const unsigned item = blockIdx.x % across * kThreads + threadIdx.x;
    const unsigned image = tall / strips, first = tall % strips * strip;
    const unsigned end = first + strip < rows ? first + strip : rows;
    return {item < items, static_cast<int>(item), static_cast<int>(first), static_cast<int>(end),
            static_cast<std::int64_t>(image)};
  }
};

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

// Sum over a warp; every thread has it.
template <typename A>
__device__ A warp_sum(A value) {
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

// Sum over a block; every thread has it.
template <typename A>
__device__ A block_sum(A value) {
  __shared__ A parts[kThreads / kWarp];
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) parts[threadIdx.x / kWarp] = value;
  __syncthreads();
  value = 0;
#pragma unroll
  for (int warp = 0; warp < kThreads / kWarp; ++warp) value += parts[warp];
  return value;
}

}  // namespace restyle
