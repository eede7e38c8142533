// Upsample by inserting zeros, filter, keep every n-th: every output reads only what is not zero.
#include <numeric>

#include "cpu.h"

namespace restyle {
namespace {

// Accumulators of a tile stay in the first level cache.
constexpr std::int64_t kTile = 2048;

// Adds tap k of one filter row to outputs [begin, end) of a row; `row` is that row of the input.
template <typename T, typename A>
void add_tap(A* sums, const T* row, const Axis& axis, std::int64_t k, A factor,
             std::int64_t begin, std::int64_t end, std::int64_t channels) {
  const std::int64_t common = std::gcd(axis.up, axis.down);
  const std::int64_t output_step = axis.up / common, input_step = axis.down / common;
  std::int64_t o = begin;
  while (o < end && source(axis, o, k) < 0) ++o;
  if (o >= end) return;
  std::int64_t i = source(axis, o, k);
  if (output_step == 1 && input_step == 1) {
    // Neighbours meet neighbours: one run over pixels and channels.
    const std::int64_t run = std::min(end - o, axis.in - i) * channels;
    A* out = sums + (o - begin) * channels;
    const T* in = row + i * channels;
#pragma omp simd
    for (std::int64_t j = 0; j < run; ++j) out[j] += factor * load(in + j);
    return;
  }
  for (; o < end && i < axis.in; o += output_step, i += input_step) {
    A* out = sums + (o - begin) * channels;
    const T* in = row + i * channels;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) out[c] += factor * load(in + c);
  }
}

template <typename T>
void upfirdn(const Upfirdn& p) {
  using A = compute_t<T>;
  const Axis &v = p.vertical, &h = p.horizontal;
  const A* fir = static_cast<const A*>(p.fir);
  const std::int64_t tile = std::max<std::int64_t>(1, std::min(h.out, kTile / p.channels));
  const std::int64_t rows = p.batch * v.out;
  in_parallel(rows, rows * h.out * p.channels, [&](std::int64_t first, std::int64_t last) {
    std::vector<A> sums(tile * p.channels);
    for (std::int64_t at = first; at < last; ++at) {
      const std::int64_t image = at / v.out, oy = at % v.out;
      const T* x = static_cast<const T*>(p.x) + image * v.in * h.in * p.channels;
      T* y = static_cast<T*>(p.y) + at * h.out * p.channels;
      for (std::int64_t begin = 0; begin < h.out; begin += tile) {
        const std::int64_t end = std::min(begin + tile, h.out);
        std::fill(sums.begin(), sums.end(), A(0));
        for (std::int64_t ky = 0; ky < v.taps; ++ky) {
          const std::int64_t iy = source(v, oy, ky);
          if (iy < 0) continue;
          const A* factors = fir + (v.taps - 1 - ky) * h.taps;
          for (std::int64_t kx = 0; kx < h.taps; ++kx)
            add_tap(sums.data(), x + iy * h.in * p.channels, h, kx, factors[h.taps - 1 - kx],
                    begin, end, p.channels);
        }
        store_run(y + begin * p.channels, sums.data(), (end - begin) * p.channels);
      }
    }
  });
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_upfirdn(const Upfirdn* p) {
  return with_dtype(p->dtype, [&](auto type) { upfirdn<decltype(type)>(*p); });
}

}  // namespace restyle
