// upfirdn2d on GPUs. A thread computes a tile of outputs for a pack of channels and reads what they
// see once; positions of taps in the tile are known when it is compiled.
#include "cuda.cuh"

namespace restyle {
namespace {

constexpr int kTaps = 4, kRows = 4, kColumns = 2;

// How far the first tile begins before the first output, so that every tile begins on an input.
RESTYLE_INLINE int begins_before(const Axis& axis, int up) {
  return static_cast<int>(((-axis.before) % up + up) % up);
}

// Filters of 4x4 taps. Output j of a tile meets by tap k the input (j * kDown + k) / kUp after the
// tile's first one, if that is a whole number.
template <typename T, int V, int kUp, int kDown>
__global__ void __launch_bounds__(kThreads) upfirdn_tiles(Upfirdn p, Strips strips) {
  using A = compute_t<T>;
  constexpr int kTall = ((kRows - 1) * kDown + kTaps - 1) / kUp + 1;
  constexpr int kWide = ((kColumns - 1) * kDown + kTaps - 1) / kUp + 1;
  const Strips::Place at = strips.place();
  if (!at.inside) return;
  const Axis &v = p.vertical, &h = p.horizontal;
  const int groups = static_cast<int>(p.channels) / V, c = at.item % groups * V;
  const std::int64_t oy = at.first - begins_before(v, kUp);
  const std::int64_t ox = at.item / groups * kColumns - begins_before(h, kUp);
  const std::int64_t iy = (oy * kDown - v.before) / kUp, ix = (ox * kDown - h.before) / kUp;
  const T* x = static_cast<const T*>(p.x) +
               ((at.image * v.in + iy) * h.in + ix) * p.channels + c;

  A fir[kTaps][kTaps], sums[kRows][kColumns][V] = {};
#pragma unroll
  for (int k = 0; k < kTaps * kTaps; ++k)
    fir[k / kTaps][k % kTaps] = static_cast<const A*>(p.fir)[kTaps * kTaps - 1 - k];
#pragma unroll
  for (int i = 0; i < kTall; ++i) {
    const bool row = iy + i >= 0 && iy + i < v.in;
    Values<T, V> seen[kWide];
#pragma unroll
    for (int m = 0; m < kWide; ++m)
      seen[m] = fetch_if<V>(row && ix + m >= 0 && ix + m < h.in,
                            x + (i * h.in + m) * p.channels);
#pragma unroll
    for (int m = 0; m < kWide; ++m)
#pragma unroll
      for (int n = 0; n < V; ++n) {
        const A value = value_of(seen[m], n);
#pragma unroll
        for (int j = 0; j < kRows; ++j) {
          const int ky = i * kUp - j * kDown;
          if (ky < 0 || ky >= kTaps) continue;
#pragma unroll
          for (int l = 0; l < kColumns; ++l) {
            const int kx = m * kUp - l * kDown;
            if (kx >= 0 && kx < kTaps) sums[j][l][n] += fir[ky][kx] * value;
          }
        }
      }
  }
#pragma unroll
  for (int j = 0; j < kRows; ++j)
#pragma unroll
    for (int l = 0; l < kColumns; ++l) {
      if (oy + j < 0 || oy + j >= v.out || ox + l < 0 || ox + l >= h.out) continue;
      put(static_cast<T*>(p.y) + ((at.image * v.out + oy + j) * h.out + ox + l) * p.channels + c,
          sums[j][l]);
    }
}

// Any filter: a thread computes one output after another down a strip.
template <typename T, int V>
__global__ void __launch_bounds__(kThreads) upfirdn_any(Upfirdn p, Strips strips) {
  using A = compute_t<T>;
  const Strips::Place at = strips.place();
  if (!at.inside) return;
  const Axis &v = p.vertical, &h = p.horizontal;
  const int groups = static_cast<int>(p.channels) / V, c = at.item % groups * V;
  const std::int64_t ox = at.item / groups;
  const FirstTap left = first_tap(h, ox);
  const T* x = static_cast<const T*>(p.x) + at.image * v.in * h.in * p.channels + c;
  const A* last = static_cast<const A*>(p.fir) + v.taps * h.taps - 1;
  for (int oy = at.first; oy < at.end; ++oy) {
    const FirstTap top = first_tap(v, oy);
    A sums[V] = {};
    for (std::int64_t ky = top.tap, iy = top.input; ky < v.taps; ky += v.up, ++iy) {
      if (iy < 0 || iy >= v.in) continue;
      for (std::int64_t kx = left.tap, ix = left.input; kx < h.taps; kx += h.up, ++ix) {
        if (ix < 0 || ix >= h.in) continue;
        const Values<T, V> seen = fetch<V>(x + (iy * h.in + ix) * p.channels);
        const A tap = last[-(ky * h.taps + kx)];
#pragma unroll
        for (int n = 0; n < V; ++n) sums[n] += tap * value_of(seen, n);
      }
    }
    put(static_cast<T*>(p.y) + ((at.image * v.out + oy) * h.out + ox) * p.channels + c, sums);
  }
}

template <typename T, int V, int kUp, int kDown>
void launch_tiles(const Upfirdn& p, cudaStream_t stream) {
  const std::int64_t columns = p.horizontal.out + begins_before(p.horizontal, kUp);
  const std::int64_t rows = p.vertical.out + begins_before(p.vertical, kUp);
  const std::int64_t items = ceil_div(columns, kColumns) * (p.channels / V);
  const Strips strips = Strips::of(items, rows, p.batch, kRows, kRows);
  launch(upfirdn_tiles<T, V, kUp, kDown>, strips.blocks(), stream, p, strips);
}

template <typename T, int V>
void launch_upfirdn(const Upfirdn& p, cudaStream_t stream) {
  const Axis &v = p.vertical, &h = p.horizontal;
  const bool alike = v.taps == kTaps && h.taps == kTaps && v.up == h.up && v.down == h.down;
  if (alike && v.up == 1 && v.down == 1) return launch_tiles<T, V, 1, 1>(p, stream);
  if (alike && v.up == 2 && v.down == 1) return launch_tiles<T, V, 2, 1>(p, stream);
  if (alike && v.up == 1 && v.down == 2) return launch_tiles<T, V, 1, 2>(p, stream);
  const std::int64_t items = h.out * (p.channels / V);
  const Strips strips = Strips::of(items, v.out, p.batch, 1, 16);
  launch(upfirdn_any<T, V>, strips.blocks(), stream, p, strips);
}

}  // namespace

// Which GPU the calling thread's next calls are for. This library has a CUDA runtime of its own,
// whatever its version, and torch's need not tell it.
RESTYLE_EXPORT std::int32_t restyle_use_device(std::int32_t device) {
  return static_cast<std::int32_t>(cudaSetDevice(device));
}

RESTYLE_EXPORT std::int32_t restyle_upfirdn(const Upfirdn* p, cudaStream_t stream) {
  const Axis &v = p->vertical, &h = p->horizontal;
  if (p->batch * v.out * h.out * p->channels == 0) return kDone;
  if (!Strips::fits((h.out + kColumns) * p->channels, v.out + kRows, p->batch)) return kTooLarge;
  return with_dtype(p->dtype, [&](auto type) {
    using T = decltype(type);
    const bool packed = p->channels % kPack<T> == 0 && aligned(p->x) && aligned(p->y);
    with_pack<T>(packed, [&](auto pack) {
      launch_upfirdn<T, decltype(pack)::value>(*p, stream);
    });
  });
}

}  // namespace restyle
