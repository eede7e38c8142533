// blur_layer on GPUs. A thread holds a pack of channels of two columns and walks down the rows: of
// each row it filters five packs along, once, and adds the results to the four output rows that see
// them, which wait in registers. Every value is read from memory once, but for three rows of each
// strip.
#include "cuda.cuh"

namespace restyle {
namespace {

// They share three of the five columns that they see.
constexpr int kColumns = 2;
constexpr int kSeen = kColumns + 3;

template <typename T, int V>
__global__ void __launch_bounds__(kThreads, 4) blur_layer(BlurLayer q, Strips strips) {
  using A = compute_t<T>;
  const Layer& p = q.layer;
  const Strips::Place at = strips.place();
  if (!at.inside) return;
  const int channels = static_cast<int>(p.channels), columns = static_cast<int>(p.columns);
  const int groups = channels / V;
  const int c = at.item % groups * V, column = at.item / groups * kColumns;

  A factor[V], bias[V], style[V], down[4], along[4];
  vector_of<V>(p.demodulation, at.image * channels + c, A(kGain), A(1), factor);
  vector_of<V>(p.bias, c, A(kGain), A(0), bias);
  vector_of<V>(p.style, at.image * channels + c, A(1), A(1), style);
  vector_of<4>(q.vertical, 0, A(1), A(0), down);
  vector_of<4>(q.horizontal, 0, A(1), A(0), along);
  const A strength = *static_cast<const A*>(p.strength) * A(kGain);

  // Outside are zeros: to the left of the first column, and beyond the last.
  const bool left = column > 0, second = column + 1 < columns, right = column + 2 < columns;
  const int pitch = (columns + 1) * channels;
  const T* x = static_cast<const T*>(p.x) + (at.image * (p.rows + 5) + at.first + 1) * pitch +
               (column - 1) * channels + c;
  Values<T, V> seen[kSeen];
  const auto fetch_row = [&] {
    seen[0] = fetch_if<V>(left, x);
    seen[1] = fetch<V>(x + channels);
    seen[2] = fetch<V>(x + 2 * channels);
    seen[3] = fetch_if<V>(second, x + 3 * channels);
    seen[4] = fetch_if<V>(right, x + 4 * channels);
    x += pitch;
  };

  const std::int64_t pixel = static_cast<std::int64_t>(at.first) * columns + column;
  const A* noise = static_cast<const A*>(p.noise) + p.first * columns + pixel;
  T* y = static_cast<T*>(p.y) + at.image * p.y_stride + pixel * channels + c;

  A waiting[3][kColumns][V] = {};
  fetch_row();
  // The first three rows complete no output.
  for (int row = at.first - 3; row < at.end; ++row) {
    A sums[kColumns][V];
#pragma unroll
    for (int i = 0; i < V; ++i) {
      A wide[kSeen];
#pragma unroll
      for (int k = 0; k < kSeen; ++k) wide[k] = value_of(seen[k], i);
#pragma unroll
      for (int k = 0; k < kColumns; ++k) {
        const A smooth = four_taps(along, wide[k], wide[k + 1], wide[k + 2], wide[k + 3]);
        sums[k][i] = waiting[0][k][i] + down[0] * smooth;
        waiting[0][k][i] = waiting[1][k][i] + down[1] * smooth;
        waiting[1][k][i] = waiting[2][k][i] + down[2] * smooth;
        waiting[2][k][i] = down[3] * smooth;
      }
    }
    const auto finish = [&](int k) {
      const A strong = noise[k] * strength;
#pragma unroll
      for (int i = 0; i < V; ++i)
        sums[k][i] = styled(sums[k][i], factor[i], strong + bias[i]) * style[i];
      put(y + k * channels, sums[k]);
    };
    if (row >= at.first) finish(0);
    // On its way while this row is finished. Not earlier, because registers would not suffice.
    if (row + 1 < at.end) fetch_row();
    if (row < at.first) continue;
    if (second) finish(1);
    noise += columns;
    y += columns * channels;
  }
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_blur_layer(const BlurLayer* q, cudaStream_t stream) {
  const Layer& p = q->layer;
  if (p.batch * p.rows * p.columns * p.channels == 0) return kDone;
  if (!Strips::fits((p.columns + 1) * p.channels, p.rows, p.batch)) return kTooLarge;
  return with_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    const bool packed = p.channels % kPack<T> == 0 && p.y_stride % kPack<T> == 0 &&
                        aligned(p.x) && aligned(p.y);
    with_pack<T>(packed, [&](auto pack) {
      constexpr int V = decltype(pack)::value;
      const std::int64_t items = ceil_div(p.columns, kColumns) * (p.channels / V);
      const Strips strips = Strips::of(items, p.rows, p.batch, 4, 32);
      launch(blur_layer<T, V>, strips.blocks(), stream, *q, strips);
    });
  });
}

}  // namespace restyle
