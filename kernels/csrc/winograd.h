// Convolutions by minimal filtering: Winograd's algorithms, as Lavin and Gray apply them in "Fast
// Algorithms for Convolutional Neural Networks" (CVPR 2016).
//
// Every tile of inputs gives a tile of outputs. Elements of the transformed input tiles are
// matrices [tiles, in]; each is multiplied by one of [in, out], which is made of the filters, and
// the products are transformed back. This is done for as many tiles at once as the second level of
// cache holds, so that each activation is read and written once.
//
// What becomes of the outputs is the caller's: a `Finish` is told of a tile, then of some channels,
// and gets their values in the tile's places, some of which may lie outside; and so on.
#pragma once

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

// As arithmetic.h has it, of vectors.
inline Lanes styled_lanes(Lanes x, Lanes factor, Lanes offset) {
  const Lanes value = x * factor + offset;
  return value > 0 ? value : value * float(kSlope);
}

// Whether vectors of T are read and written here.
template <typename T>
constexpr bool kHasLanes = std::is_same_v<T, float>;
#ifdef __AVX512BF16__
template <>
constexpr bool kHasLanes<bf16> = true;
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

// The algorithms, along one axis. Tiles of both begin two inputs apart, one input before the place
// that they belong to.

// F(2, 3): two outputs of a filter of three taps. Four multiplications instead of six.
struct Plain {
  static constexpr int kInputs = 4, kElements = 4, kProducts = 4, kOutputs = 2;
  static constexpr int kElementOf[kProducts] = {0, 1, 2, 3};

  static void elements(const Lanes* x, Lanes* to) {
    to[0] = x[0] - x[2];
    to[1] = x[1] + x[2];
    to[2] = x[2] - x[1];
    to[3] = x[1] - x[3];
  }
  static void outputs(const Lanes* product, Lanes* to) {
    to[0] = product[0] + product[1] + product[2];
    to[1] = product[1] - product[2] - product[3];
  }
};

// Four outputs of the transposed convolution that doubles the size: output 2 i + k has tap k of
// input i. Even ones are F(2, 2), odd ones see one tap. Five multiplications instead of six.
struct Doubling {
  static constexpr int kInputs = 3, kElements = 4, kProducts = 5, kOutputs = 4;
  // Of the taps 2, 0 and 2, 0, 1 and 1.
  static constexpr int kElementOf[kProducts] = {0, 1, 2, 1, 3};

  static void elements(const Lanes* x, Lanes* to) {
    to[0] = x[0] - x[1];
    to[1] = x[1];
    to[2] = x[2] - x[1];
    to[3] = x[2];
  }
  static void outputs(const Lanes* product, Lanes* to) {
    to[0] = product[0] + product[1];
    to[1] = product[3];
    to[2] = product[1] + product[2];
    to[3] = product[4];
  }
};

// Tiles of all images, row by row.
template <typename Axis>
struct Tiles {
  std::int64_t across, down, count;

  explicit Tiles(const Winograd& p)
      : across((p.y_columns + Axis::kOutputs - 1) / Axis::kOutputs),
        down((p.y_rows + Axis::kOutputs - 1) / Axis::kOutputs),
        count(p.batch * across * down) {}
  std::int64_t column(std::int64_t tile) const { return tile % across; }
  std::int64_t row(std::int64_t tile) const { return tile / across % down; }
  std::int64_t image(std::int64_t tile) const { return tile / across / down; }
};

// How far apart matrices of [rows, width] lie. A line between them keeps values of the same place
// from falling into the same set of the cache.
template <typename T>
std::int64_t distance(std::int64_t rows, std::int64_t width) {
  return rows * width + 64 / static_cast<std::int64_t>(sizeof(T));
}

// One row of tiles: its columns, transformed downwards. What lies outside is padding.
template <typename T, typename Axis>
struct Columns {
  const T* rows[Axis::kInputs];
  const float* padding;
  std::int64_t columns, channels;

  Columns(const Winograd& p, std::int64_t image, std::int64_t tile_row)
      : padding(static_cast<const float*>(p.padding)), columns(p.columns), channels(p.in) {
    const T* x = static_cast<const T*>(p.x) + image * p.x_stride;
    for (int r = 0; r < Axis::kInputs; ++r) {
      const std::int64_t row = 2 * tile_row + r - p.above;
      rows[r] = row < 0 || row >= p.rows ? nullptr : x + row * p.columns * p.in;
    }
  }

  void transform(std::int64_t column, std::int64_t channel, Lanes* to) const {
    const bool inside = column >= 0 && column < columns;
    Lanes x[Axis::kInputs];
#pragma GCC unroll 4
    for (int r = 0; r < Axis::kInputs; ++r) {
      if (inside && rows[r] != nullptr) {
        x[r] = lanes(rows[r] + column * channels + channel);
      } else {
        x[r] = padding == nullptr ? Lanes{} : lanes(padding + channel);
      }
    }
    Axis::elements(x, to);
  }
};

// Elements of `count` tiles from `first` on, in matrices that lie `apart`.
template <typename T, typename Axis>
void transform_in(const Winograd& p, const Tiles<Axis>& tiles, std::int64_t first,
                  std::int64_t count, std::int64_t apart, T* v) {
  constexpr int inputs = Axis::kInputs, elements = Axis::kElements;
  for (std::int64_t t = 0; t < count;) {
    const std::int64_t left = tiles.column(first + t);
    const std::int64_t run = std::min(count - t, tiles.across - left);
    const Columns<T, Axis> columns(p, tiles.image(first + t), tiles.row(first + t));
    for (std::int64_t c = 0; c < p.in; c += kLanes) {
      Lanes d[inputs][elements];
#pragma GCC unroll 4
      for (int k = 2; k < inputs; ++k) columns.transform(2 * left - 3 + k, c, d[k]);
      for (std::int64_t j = 0; j < run; ++j) {
        // Two columns further: the others are there.
#pragma GCC unroll 4
        for (int k = 0; k < inputs - 2; ++k)
#pragma GCC unroll 4
          for (int r = 0; r < elements; ++r) d[k][r] = d[k + 2][r];
#pragma GCC unroll 4
        for (int k = inputs - 2; k < inputs; ++k)
          columns.transform(2 * (left + j) - 1 + k, c, d[k]);
        T* to = v + (t + j) * p.in + c;
#pragma GCC unroll 4
        for (int r = 0; r < elements; ++r, to += elements * apart) {
          Lanes row[inputs], element[elements];
#pragma GCC unroll 4
          for (int k = 0; k < inputs; ++k) row[k] = d[k][r];
          Axis::elements(row, element);
#pragma GCC unroll 4
          for (int k = 0; k < elements; ++k) put(to + k * apart, element[k]);
        }
      }
    }
    t += run;
  }
}

// Products of `width` output channels from `begin` on, transformed back and given to `finish`.
template <typename Axis, typename Finish>
void transform_out(const Winograd& p, const Tiles<Axis>& tiles, std::int64_t first,
                   std::int64_t count, std::int64_t apart, const float* m, std::int64_t begin,
                   std::int64_t width, Finish& finish) {
  constexpr int products = Axis::kProducts, outputs = Axis::kOutputs;
  for (std::int64_t t = 0; t < count; ++t) {
    const std::int64_t column = tiles.column(first + t) * outputs;
    const std::int64_t row = tiles.row(first + t) * outputs;
    // The last tiles hang over.
    const std::int64_t below = std::min<std::int64_t>(outputs, p.y_rows - row);
    const std::int64_t right = std::min<std::int64_t>(outputs, p.y_columns - column);
    finish.tile(tiles.image(first + t), row, column, below, right);
    for (std::int64_t c = 0; c < width; c += kLanes) {
      const float* from = m + t * width + c;
      Lanes sums[outputs][products];
#pragma GCC unroll 5
      for (int k = 0; k < products; ++k) {
        Lanes product[products], sum[outputs];
#pragma GCC unroll 5
        for (int r = 0; r < products; ++r) product[r] = lanes(from + (products * r + k) * apart);
        Axis::outputs(product, sum);
#pragma GCC unroll 4
        for (int r = 0; r < outputs; ++r) sums[r][k] = sum[r];
      }
      finish.channels(begin + c);
#pragma GCC unroll 4
      for (int r = 0; r < outputs; ++r) {
        Lanes output[outputs];
        Axis::outputs(sums[r], output);
#pragma GCC unroll 4
        for (int k = 0; k < outputs; ++k) finish.value(r, k, output[k], r < below && k < right);
      }
    }
    finish.end();
  }
}

// Half of the second level of cache for what is multiplied, and as many tiles as gain from it.
constexpr std::int64_t kBytes = 1 << 19;
constexpr std::int64_t kMostTiles = 24;

// The output channels are in panels of kVectors vectors. `finish` is copied for every thread.
template <typename T, typename Axis, int kVectors, typename Finish>
void convolve(const Winograd& p, const Finish& each) {
  constexpr std::int64_t width = kVectors * kLanes;
  constexpr std::int64_t elements = Axis::kElements, products = Axis::kProducts;
  const Tiles<Axis> tiles(p);
  const std::int64_t panels = p.out / width;
  const std::int64_t tile = elements * elements * p.in * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t most = std::min(kMostTiles, std::max<std::int64_t>(12, kBytes / tile));
  const std::int64_t threads = omp_get_max_threads();
  // Small maps have large weights: threads then share those, and each transforms the tiles.
  const bool share_panels = Finish::kAnyPanel && tiles.count < threads * most && panels >= threads;
  const std::int64_t shares = share_panels ? threads : 1, equal = share_panels ? 1 : threads;
  // As many blocks for every thread.
  const std::int64_t blocks = (tiles.count + most * equal - 1) / (most * equal) * equal;
  const std::int64_t rows = blocks ? (tiles.count + blocks - 1) / blocks : 0;
  const std::int64_t v_apart = distance<T>(rows, p.in), m_apart = distance<float>(rows, width);
#pragma omp parallel
  {
    const Scratch<T> v(elements * elements * v_apart);
    const Scratch<float> m(products * products * m_apart);
    Finish finish = each;
    // Whoever is ready takes the next one, and nobody waits for a thread that was held up.
#pragma omp for schedule(dynamic)
    for (std::int64_t task = 0; task < blocks * shares; ++task) {
      const std::int64_t at = task / shares * rows, share = task % shares;
      const std::int64_t count = std::min(rows, tiles.count - at);
      if (count <= 0) continue;
      transform_in<T>(p, tiles, at, count, v_apart, v.data());
      const std::int64_t end = panels * (share + 1) / shares;
      for (std::int64_t panel = panels * share / shares; panel < end; ++panel) {
        const T* weight =
            static_cast<const T*>(p.weight) + panel * products * products * p.in * width;
        for (std::int64_t k = 0; k < products * products; ++k) {
          const std::int64_t element =
              Axis::kElementOf[k / products] * elements + Axis::kElementOf[k % products];
          multiply<T, kVectors>(v.data() + element * v_apart, count, p.in,
                                weight + k * p.in * width, m.data() + k * m_apart);
        }
        transform_out(p, tiles, at, count, m_apart, m.data(), panel * width, width, finish);
      }
    }
  }
}

template <typename T, typename Axis, typename Finish>
std::int32_t in_panels(const Winograd& p, const Finish& finish) {
  if (p.panel == 4 * kLanes) {
    convolve<T, Axis, 4>(p, finish);
  } else if (p.panel == 2 * kLanes) {
    convolve<T, Axis, 2>(p, finish);
  } else {
    return kTooLarge;
  }
  return kDone;
}

}  // namespace
}  // namespace restyle
#endif
