// 3x3 convolutions by minimal filtering, F(2x2, 3x3) of Lavin and Gray, "Fast Algorithms for
// Convolutional Neural Networks" (CVPR 2016): 16 products give 2x2 outputs, which take 36 otherwise.
//
// A tile is 4x4 inputs, of which neighbours share two rows or columns, and the 2x2 outputs that they
// give. The sixteen elements of transformed tiles are sixteen matrices [tiles, in]; each is multiplied
// by one of [in, out], and the sixteen products are transformed back. This is done for as many tiles
// at once as the second level of cache holds, so that each activation is read and written once.
#include "cpu.h"

#ifdef __AVX512F__
#include <immintrin.h>

#include <array>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace restyle {
namespace {

typedef float Lanes __attribute__((vector_size(64)));
constexpr std::int64_t kLanes = 16;
constexpr std::int64_t kElements = 16;

inline Lanes lanes(const float* p) { return (Lanes)_mm512_loadu_ps(p); }
inline void put(float* p, Lanes v) { _mm512_storeu_ps(p, (__m512)v); }
// The sum and `a` times `b`, where a lane holds one float or two bf16.
inline Lanes multiplied(Lanes sum, Lanes a, Lanes b, float) { return sum + a * b; }
#ifdef __AVX512BF16__
inline Lanes lanes(const bf16* p) {
  const __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return (Lanes)_mm512_slli_epi32(_mm512_cvtepu16_epi32(narrow), 16);
}
inline void put(bf16* p, Lanes v) {
  const __m256i narrow = (__m256i)_mm512_cvtneps_pbh((__m512)v);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow);
}
inline Lanes multiplied(Lanes sum, Lanes a, Lanes b, bf16) {
  return (Lanes)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
}
#endif

// Values of T in a lane: products of that many channels are added by one instruction.
template <typename T>
constexpr std::int64_t kTogether = sizeof(float) / sizeof(T);

// [kRows, depth] times [depth, kVectors lanes], where channels that are multiplied together stand
// together. All sums stay in registers.
template <typename T, int kRows, int kVectors>
void product(const T* __restrict a, std::int64_t depth, const T* __restrict b,
             float* __restrict c) {
  Lanes sum[kRows][kVectors] = {};
  for (std::int64_t k = 0; k < depth; k += kTogether<T>) {
    Lanes right[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v)
      right[v] = lanes(reinterpret_cast<const float*>(b + k * kVectors * kLanes) + v * kLanes);
#pragma GCC unroll 12
    for (int r = 0; r < kRows; ++r) {
      float together;
      memcpy(&together, a + r * depth + k, sizeof together);
      const Lanes left = (Lanes)_mm512_set1_ps(together);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] = multiplied(sum[r][v], left, right[v], T{});
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) put(c + (r * kVectors + v) * kLanes, sum[r][v]);
}

// Of 1, 2, 3, ... rows.
template <typename T, int kVectors, int... kLess>
constexpr auto products(std::integer_sequence<int, kLess...>) {
  using Product = void (*)(const T*, std::int64_t, const T*, float*);
  return std::array<Product, sizeof...(kLess)>{product<T, kLess + 1, kVectors>...};
}

template <typename T, int kVectors>
void multiply(const T* a, std::int64_t rows, std::int64_t depth, const T* b, float* c) {
  // With these, 24 of the 32 registers are sums.
  constexpr int kMost = 24 / kVectors;
  constexpr auto of_rows = products<T, kVectors>(std::make_integer_sequence<int, kMost>{});
  for (std::int64_t at = 0; at < rows; at += kMost)
    of_rows[std::min<std::int64_t>(kMost, rows - at) - 1](a + at * depth, depth, b,
                                                          c + at * kVectors * kLanes);
}

// Uninitialised, and aligned to a line of the cache.
template <typename T>
class Scratch {
 public:
  explicit Scratch(std::int64_t count)
      : memory_(static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{64}))) {}
  T* data() const { return memory_.get(); }

 private:
  struct Free {
    void operator()(T* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<T, Free> memory_;
};

// Tiles of all images, row by row.
struct Tiles {
  std::int64_t across, down, count;
  explicit Tiles(const Winograd& p)
      : across((p.columns + 1) / 2), down((p.rows + 1) / 2), count(p.batch * across * down) {}
};

// `count` matrices of `rows` rows, one after another. A line between them keeps values of the same
// place from falling into the same set of the cache.
template <typename T>
std::int64_t distance(std::int64_t rows, std::int64_t width) {
  return rows * width + 64 / static_cast<std::int64_t>(sizeof(T));
}

// The four rows of one column, transformed downwards; columns outside hold the padding.
template <typename T>
struct Columns {
  const T* rows[4];
  const float* padding;
  std::int64_t columns, channels;

  Lanes outside(std::int64_t channel) const {
    return padding == nullptr ? Lanes{} : lanes(padding + channel);
  }

  void transform(std::int64_t column, std::int64_t channel, Lanes* to) const {
    const bool inside = column >= 0 && column < columns;
    Lanes x[4];
#pragma GCC unroll 4
    for (int r = 0; r < 4; ++r)
      x[r] = inside && rows[r] != nullptr ? lanes(rows[r] + column * channels + channel)
                                          : outside(channel);
    to[0] = x[0] - x[2];
    to[1] = x[1] + x[2];
    to[2] = x[2] - x[1];
    to[3] = x[1] - x[3];
  }
};

template <typename T>
void transform_in(const Winograd& p, const Tiles& tiles, std::int64_t first, std::int64_t count,
                  std::int64_t apart, T* v) {
  const std::int64_t height = p.rows + 2 - 2 * p.above;
  for (std::int64_t t = 0; t < count;) {
    const std::int64_t at = first + t, left = at % tiles.across;
    // As many as lie in one row of tiles.
    const std::int64_t run = std::min(count - t, tiles.across - left);
    const T* image =
        static_cast<const T*>(p.x) + at / tiles.across / tiles.down * p.x_stride;
    Columns<T> columns{{}, static_cast<const float*>(p.padding), p.columns, p.in};
    for (int r = 0; r < 4; ++r) {
      const std::int64_t row = at / tiles.across % tiles.down * 2 + r - p.above;
      columns.rows[r] = row < 0 || row >= height ? nullptr : image + row * p.columns * p.in;
    }
    for (std::int64_t c = 0; c < p.in; c += kLanes) {
      Lanes d[4][4];
      columns.transform(2 * left - 1, c, d[2]);
      columns.transform(2 * left, c, d[3]);
      for (std::int64_t j = 0; j < run; ++j) {
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) d[0][r] = d[2][r], d[1][r] = d[3][r];
        columns.transform(2 * (left + j) + 1, c, d[2]);
        columns.transform(2 * (left + j) + 2, c, d[3]);
        T* to = v + (t + j) * p.in + c;
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r, to += 4 * apart) {
          put(to, d[0][r] - d[2][r]);
          put(to + apart, d[1][r] + d[2][r]);
          put(to + 2 * apart, d[2][r] - d[1][r]);
          put(to + 3 * apart, d[1][r] - d[3][r]);
        }
      }
    }
    t += run;
  }
}

// Sums of the products of `width` output channels from `begin` on: bias and leaky ReLU follow.
template <typename T>
void transform_out(const Winograd& p, const Tiles& tiles, std::int64_t first, std::int64_t count,
                   std::int64_t apart, const float* m, std::int64_t begin, std::int64_t width) {
  const float* biases = static_cast<const float*>(p.bias);
  const float* slopes = static_cast<const float*>(p.slope);
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t at = first + t, column = at % tiles.across * 2;
    const std::int64_t row = at / tiles.across % tiles.down * 2;
    const std::int64_t image = at / tiles.across / tiles.down;
    T* y = static_cast<T*>(p.y) + ((image * p.rows + row) * p.columns + column) * p.out + begin;
    // The last tiles of an odd size hang over.
    const bool right = column + 1 < p.columns, below = row + 1 < p.rows;
    for (std::int64_t c = 0; c < width; c += kLanes) {
      const float* from = m + t * width + c;
      Lanes sums[2][4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        const Lanes one = lanes(from + k * apart), two = lanes(from + (4 + k) * apart),
                    three = lanes(from + (8 + k) * apart), four = lanes(from + (12 + k) * apart);
        sums[0][k] = one + two + three;
        sums[1][k] = two - three - four;
      }
      const Lanes bias = biases == nullptr ? Lanes{} : lanes(biases + begin + c);
      const auto finish = [&](T* to, Lanes value) {
        value += bias;
        put(to, slopes == nullptr
                    ? value
                    : (value > 0 ? value : value * lanes(slopes + begin + c)));
      };
      T* to = y + c;
      finish(to, sums[0][0] + sums[0][1] + sums[0][2]);
      if (right) finish(to + p.out, sums[0][1] - sums[0][2] - sums[0][3]);
      if (!below) continue;
      to += p.columns * p.out;
      finish(to, sums[1][0] + sums[1][1] + sums[1][2]);
      if (right) finish(to + p.out, sums[1][1] - sums[1][2] - sums[1][3]);
    }
  }
}

// Half of the second level of cache for what is multiplied, and as many tiles as gain from it.
constexpr std::int64_t kBytes = 1 << 19;
constexpr std::int64_t kMostTiles = 48;

// The output channels are in panels of kVectors vectors.
template <typename T, int kVectors>
void convolve(const Winograd& p) {
  constexpr std::int64_t width = kVectors * kLanes;
  const Tiles tiles(p);
  const std::int64_t panels = p.out / width;
  const std::int64_t fitting = kBytes / static_cast<std::int64_t>(kElements * p.in * sizeof(T));
  const std::int64_t most = std::min(kMostTiles, std::max<std::int64_t>(12, fitting));
#pragma omp parallel
  {
    const std::int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const auto part = [&](std::int64_t count, std::int64_t i) { return count * i / threads; };
    // Small maps have large weights: threads then share those, and each transforms all tiles.
    const bool share_panels = tiles.count < threads * most && panels >= threads;
    const std::int64_t begin = share_panels ? 0 : part(tiles.count, thread);
    const std::int64_t end = share_panels ? tiles.count : part(tiles.count, thread + 1);
    const std::int64_t first_panel = share_panels ? part(panels, thread) : 0;
    const std::int64_t last_panel = share_panels ? part(panels, thread + 1) : panels;
    const std::int64_t blocks = (end - begin + most - 1) / most;
    const std::int64_t rows = blocks ? (end - begin + blocks - 1) / blocks : 0;
    const std::int64_t v_apart = distance<T>(rows, p.in), m_apart = distance<float>(rows, width);
    const Scratch<T> v(kElements * v_apart);
    const Scratch<float> m(kElements * m_apart);
    for (std::int64_t at = begin; at < end; at += rows) {
      const std::int64_t count = std::min(rows, end - at);
      transform_in<T>(p, tiles, at, count, v_apart, v.data());
      for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
        const T* weight = static_cast<const T*>(p.weight) + panel * kElements * p.in * width;
        for (std::int64_t k = 0; k < kElements; ++k)
          multiply<T, kVectors>(v.data() + k * v_apart, count, p.in, weight + k * p.in * width,
                                m.data() + k * m_apart);
        transform_out<T>(p, tiles, at, count, m_apart, m.data(), panel * width, width);
      }
    }
  }
}

template <typename T>
std::int32_t with_panels(const Winograd& p) {
  if (p.panel == 4 * kLanes) {
    convolve<T, 4>(p);
  } else if (p.panel == 2 * kLanes) {
    convolve<T, 2>(p);
  } else {
    return kTooLarge;
  }
  return kDone;
}

}  // namespace
}  // namespace restyle
#endif

namespace restyle {

RESTYLE_EXPORT std::int32_t restyle_winograd(const Winograd* p) {
#ifdef __AVX512F__
  if (p->dtype == kFloat32) return with_panels<float>(*p);
#endif
#ifdef __AVX512BF16__
  if (p->dtype == kBFloat16) return with_panels<bf16>(*p);
#endif
  return kUnknownDType;
}

}  // namespace restyle
