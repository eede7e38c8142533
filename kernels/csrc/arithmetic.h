// What one element goes through, shared by the CPU and the CUDA sources: tests of the CPU library
// thereby cover the arithmetic that a GPU does. See kernels/reference.py for the definitions.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define RESTYLE_INLINE __host__ __device__ __forceinline__
#else
#define RESTYLE_INLINE inline __attribute__((always_inline))
#endif

namespace restyle {

constexpr double kGain = 1.41421356237309504880;
constexpr double kSlope = 0.2;

// bfloat16 as its bits: the upper half of a float.
struct bf16 {
  std::uint16_t bits;
};

// The type that a storage type is computed in.
template <typename T>
struct Compute {
  using type = float;
};
template <>
struct Compute<double> {
  using type = double;
};
template <typename T>
using compute_t = typename Compute<T>::type;

RESTYLE_INLINE float load(const float* p) { return *p; }
RESTYLE_INLINE double load(const double* p) { return *p; }
RESTYLE_INLINE float load(const bf16* p) {
  const std::uint32_t bits = static_cast<std::uint32_t>(p->bits) << 16;
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

RESTYLE_INLINE void store(float* p, float value) { *p = value; }
RESTYLE_INLINE void store(double* p, double value) { *p = value; }
// Round to nearest, ties to even. NaN stays NaN: its payload is cut instead of rounded away.
RESTYLE_INLINE void store(bf16* p, float value) {
#ifdef __CUDA_ARCH__
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(p->bits) : "f"(value));
  return;
#endif
  std::uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const std::uint32_t quiet = (bits >> 16) | 0x40u;
  p->bits = static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

// Leaky ReLU of a value that has its gain already: the gain is positive, so it commutes.
template <typename A>
RESTYLE_INLINE A leaky(A value) {
  return value > A(0) ? value : value * A(kSlope);
}

// The epilogue of a styled convolution: `factor` is demodulation times gain, `offset` is noise and
// bias, times gain.
template <typename A>
RESTYLE_INLINE A styled(A x, A factor, A offset) {
  return leaky(x * factor + offset);
}

// The gradient with respect to what `leaky` was given, without the gain.
template <typename A>
RESTYLE_INLINE A leaky_gradient(A gradient, A value) {
  return value > A(0) ? gradient : gradient * A(kSlope);
}

// A filter's geometry along one axis. Output `o` sees the zero-inserted, padded input from
// `o * down - before` on; tap k of the flipped filter meets input (o * down - before + k) / up.
struct Axis {
  std::int64_t in, out, taps, up, down, before;
};

// The input that tap k meets, or -1 where it meets an inserted zero or padding.
RESTYLE_INLINE std::int64_t source(const Axis& axis, std::int64_t o, std::int64_t k) {
  const std::int64_t at = o * axis.down - axis.before + k;
  if (at < 0 || at % axis.up != 0 || at / axis.up >= axis.in) return -1;
  return at / axis.up;
}

// Where the taps that meet inputs begin for output `o`: tap `tap` meets input `input`, tap + up the
// next one, and so on. Inputs may lie outside.
struct FirstTap {
  std::int64_t tap, input;
};
RESTYLE_INLINE FirstTap first_tap(const Axis& axis, std::int64_t o) {
  const std::int64_t at = o * axis.down - axis.before;
  const std::int64_t over = (at % axis.up + axis.up) % axis.up;
  const std::int64_t tap = over == 0 ? 0 : axis.up - over;
  return {tap, (at + tap) / axis.up};
}

// Four taps of a convolution, the first of which belongs to the last value.
template <typename Tap, typename A>
RESTYLE_INLINE A four_taps(const Tap* taps, A a, A b, A c, A d) {
  return taps[3] * a + taps[2] * b + taps[1] * c + taps[0] * d;
}

// Enlarging by two with four taps: output o of an axis sees input `index` and the one after it.
// Either may lie outside, where the input is zero.
template <typename A>
struct Pair {
  std::int64_t index;
  A first, second;
};
template <typename A>
RESTYLE_INLINE Pair<A> enlarged(const A* taps, std::int64_t o) {
  if (o % 2 == 0) return {o / 2 - 1, taps[3], taps[1]};
  return {o / 2, taps[2], taps[0]};
}

}  // namespace restyle
