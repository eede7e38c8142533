// to_rgb_layer on GPUs. L threads share the channels of a pixel, a pack each, and hold what belongs
// to these channels in registers; a warp takes four neighbouring pixels for each L of its threads,
// row after row. The sums of three colours are added up so that four threads end with a pixel each.
#include "cuda.cuh"

namespace restyle {
namespace {

// Pixels of a row that a thread has in work at once.
constexpr int kPixels = 4;

// What belongs to V channels of an image.
template <typename A, int V>
struct Factors {
  A factor[V], bias[V], style[V], weight[3][V];

  __device__ void of(const ToRgbLayer& q, std::int64_t image, std::int64_t c) {
    const Layer& p = q.layer;
    vector_of<V>(p.demodulation, image * p.channels + c, A(kGain), A(1), factor);
    vector_of<V>(p.bias, c, A(kGain), A(0), bias);
    vector_of<V>(p.style, image * p.channels + c, A(1), A(1), style);
#pragma unroll
    for (int k = 0; k < 3; ++k)
      vector_of<V>(q.weight, (image * 3 + k) * p.channels + c, A(1), A(0), weight[k]);
  }
};

template <typename A>
__device__ A enlarged_skip(const ToRgbLayer& q, std::int64_t plane, const Pair<A>& v,
                           const Pair<A>& h) {
  const std::int64_t height = q.height / 2, width = q.layer.columns / 2;
  const A* skip = static_cast<const A*>(q.skip) + (plane * height + v.index) * width + h.index;
  A sum = 0;
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const std::int64_t y = v.index + i, x = h.index + j;
      if (y < 0 || y >= height || x < 0 || x >= width) continue;
      sum += (i ? v.second : v.first) * (j ? h.second : h.first) * skip[i * width + j];
    }
  return sum;
}

// Adds up over the L threads of a pixel group. Thread `part` is left with the sums of pixel
// 2 * (part & 1) + (part >> 1 & 1): with every exchange it gives one half away and keeps the other.
template <int L, typename A>
__device__ void gather(A (&sums)[kPixels][3], int part, A (&mine)[3]) {
  A half[2][3];
#pragma unroll
  for (int k = 0; k < 2; ++k)
#pragma unroll
    for (int colour = 0; colour < 3; ++colour) {
      const A give = part & 1 ? sums[k][colour] : sums[k + 2][colour];
      const A keep = part & 1 ? sums[k + 2][colour] : sums[k][colour];
      half[k][colour] = keep + __shfl_xor_sync(0xffffffffu, give, 1);
    }
#pragma unroll
  for (int colour = 0; colour < 3; ++colour) {
    const A give = part & 2 ? half[0][colour] : half[1][colour];
    const A keep = part & 2 ? half[1][colour] : half[0][colour];
    mine[colour] = keep + __shfl_xor_sync(0xffffffffu, give, 2);
#pragma unroll
    for (int offset = 4; offset < L; offset *= 2)
      mine[colour] += __shfl_xor_sync(0xffffffffu, mine[colour], offset);
  }
}

// With kWhole, L packs are all channels, and factors are fetched once.
template <typename T, int V, int L, bool kWhole>
__global__ void __launch_bounds__(kThreads, 4) to_rgb_layer(ToRgbLayer q, Strips strips) {
  using A = compute_t<T>;
  constexpr int kGroups = kWarp / L;
  const Layer& p = q.layer;
  const Strips::Place at = strips.place();
  // The same for a whole warp.
  if (!at.inside) return;
  const int channels = static_cast<int>(p.channels), columns = static_cast<int>(p.columns);
  const int lane = threadIdx.x % kWarp, part = lane % L;
  const int column = at.item / kWarp * (kGroups * kPixels) + lane / L;
  Factors<A, V> factors;
  if constexpr (kWhole) factors.of(q, at.image, part * V);
  const A strength = *static_cast<const A*>(p.strength) * A(kGain);
  const int own = column + (2 * (part & 1) + (part >> 1 & 1)) * kGroups;
  const bool finishes = part < kPixels && own < columns;
  const Pair<A> across = enlarged(static_cast<const A*>(q.horizontal), own);

  for (int row = at.first; row < at.end; ++row) {
    const std::int64_t pixel = static_cast<std::int64_t>(row) * columns + column;
    const A* noise = static_cast<const A*>(p.noise) + p.first * columns + pixel;
    A sums[kPixels][3] = {};
    A strong[kPixels];
#pragma unroll
    for (int k = 0; k < kPixels; ++k)
      strong[k] = column + k * kGroups < columns ? noise[k * kGroups] * strength : A(0);
    for (int c = part * V; c < channels; c += L * V) {
      if constexpr (!kWhole) factors.of(q, at.image, c);
      const T* x = static_cast<const T*>(p.x) +
                   (at.image * p.rows * columns + pixel) * channels + c;
      T* y = static_cast<T*>(p.y) + at.image * p.y_stride + pixel * channels + c;
      Values<T, V> seen[kPixels];
#pragma unroll
      for (int k = 0; k < kPixels; ++k)
        seen[k] = fetch_if<V>(column + k * kGroups < columns, x + k * kGroups * channels);
#pragma unroll
      for (int k = 0; k < kPixels; ++k) {
        A values[V];
#pragma unroll
        for (int i = 0; i < V; ++i) {
          const A value = styled(value_of(seen[k], i), factors.factor[i],
                                 strong[k] + factors.bias[i]);
#pragma unroll
          for (int colour = 0; colour < 3; ++colour)
            sums[k][colour] += value * factors.weight[colour][i];
          values[i] = value * factors.style[i];
        }
        if (p.y != nullptr && column + k * kGroups < columns)
          put(y + k * kGroups * channels, values);
      }
      if constexpr (kWhole) break;
    }
    A mine[3];
    gather<L>(sums, part, mine);
    if (!finishes) continue;
    const Pair<A> down = enlarged(static_cast<const A*>(q.vertical), p.first + row);
#pragma unroll
    for (int colour = 0; colour < 3; ++colour) {
      const std::int64_t plane = at.image * 3 + colour;
      A value = mine[colour] + static_cast<const A*>(q.rgb_bias)[colour];
      if (q.skip != nullptr) value += enlarged_skip<A>(q, plane, down, across);
      static_cast<A*>(q.image)[(plane * q.height + p.first + row) * columns + own] = value;
    }
  }
}

template <typename T, int V, int L, bool kWhole>
void launch_to_rgb(const ToRgbLayer& q, cudaStream_t stream) {
  const Layer& p = q.layer;
  const std::int64_t warps = ceil_div(p.columns, kWarp / L * kPixels);
  const Strips strips = Strips::of(warps * kWarp, p.rows, p.batch, 1, 16);
  launch(to_rgb_layer<T, V, L, kWhole>, strips.blocks(), stream, q, strips);
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_to_rgb_layer(const ToRgbLayer* q, cudaStream_t stream) {
  const Layer& p = q->layer;
  if (p.batch * p.rows * p.columns * p.channels == 0) return kDone;
  if (!Strips::fits(kWarp * p.columns, p.rows, p.batch)) return kTooLarge;
  if (p.columns * p.channels > INT32_MAX) return kTooLarge;
  return with_dtype(p.dtype, [&](auto type) {
    using T = decltype(type);
    constexpr int V = kPack<T>;
    const bool packed = p.channels % V == 0 && p.y_stride % V == 0 && aligned(p.x) && aligned(p.y);
    if (!packed) return launch_to_rgb<T, 1, 32, false>(*q, stream);
    if constexpr (std::is_same_v<T, bf16> || std::is_same_v<T, float>) {
      if (p.channels == 4 * V) return launch_to_rgb<T, V, 4, true>(*q, stream);
      if (p.channels == 8 * V) return launch_to_rgb<T, V, 8, true>(*q, stream);
      if (p.channels == 16 * V) return launch_to_rgb<T, V, 16, true>(*q, stream);
      if (p.channels == 32 * V) return launch_to_rgb<T, V, 32, true>(*q, stream);
    }
    launch_to_rgb<T, V, 32, false>(*q, stream);
  });
}

}  // namespace restyle
