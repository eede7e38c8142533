// What follows a convolution in inference, channels last: each activation is read once, in float,
// and written once, scaled as the next convolution wants it.
#include <array>
#include <type_traits>

#include "winograd.h"

namespace restyle {
namespace {

// What a row of an image has in common. With kChannels known, the compiler keeps the vectors of a
// narrow layer in registers; 0 stands for any number.
template <typename A>
struct RowFactors {
  const A *__restrict factor, *__restrict bias, *__restrict style, *__restrict noise;
  A strength;
  std::int64_t channels, columns;
};

// The vectors of one image with the gain multiplied in.
template <typename A>
struct LayerFactors {
  std::vector<A> factor, bias, style;
  A strength;

  explicit LayerFactors(const Layer& p)
      : factor(p.batch * p.channels), bias(p.channels), style(p.batch * p.channels, A(1)),
        strength(*static_cast<const A*>(p.strength) * A(kGain)) {
    const A* demodulation = static_cast<const A*>(p.demodulation);
    for (std::size_t j = 0; j < factor.size(); ++j) factor[j] = demodulation[j] * A(kGain);
    const A* biases = static_cast<const A*>(p.bias);
    for (std::int64_t c = 0; c < p.channels; ++c) bias[c] = biases[c] * A(kGain);
    const A* styles = static_cast<const A*>(p.style);
    if (styles != nullptr) std::copy(styles, styles + style.size(), style.begin());
  }

  // Of row `row` of those that are asked for.
  RowFactors<A> row(const Layer& p, std::int64_t image, std::int64_t row) const {
    const A* noise = static_cast<const A*>(p.noise) + (p.first + row) * p.columns;
    return {factor.data() + image * p.channels, bias.data(), style.data() + image * p.channels,
            noise, strength, p.channels, p.columns};
  }
};

// Filtered values of a few columns stay in the first two levels of cache.
constexpr std::int64_t kTile = 8192;
// Channels that are filtered together: a line of the cache in bf16.
constexpr std::int64_t kBlurred = 32;

// The four rows that an output row sees, filtered downwards, for columns [begin, end) of x; where
// there is no column, zeros.
template <typename T, typename A>
void filter_down(const T* x, std::int64_t width, std::int64_t channels, const A* taps,
                 std::int64_t begin, std::int64_t end, A* out) {
  const std::int64_t row = width * channels;
  const std::int64_t inside = std::max<std::int64_t>(begin, 0), stop = std::min(end, width);
  std::fill(out, out + (inside - begin) * channels, A(0));
  std::fill(out + (stop - begin) * channels, out + (end - begin) * channels, A(0));
  const T* in = x + inside * channels;
  A* at = out + (inside - begin) * channels;
  const std::int64_t count = (stop - inside) * channels;
#pragma omp simd
  for (std::int64_t j = 0; j < count; ++j)
    at[j] = four_taps(taps, load(in + j), load(in + row + j), load(in + 2 * row + j),
                      load(in + 3 * row + j));
}

// The four columns that each pixel in [begin, end) sees, filtered, and what follows. Pixel `begin`
// sees the first four of `v`; it is the first of `out`.
template <std::int64_t kChannels, typename A>
void filter_along(const RowFactors<A>& f, std::int64_t begin, std::int64_t end,
                  const A* __restrict v, const A* __restrict taps, A* __restrict out) {
  const std::int64_t channels = kChannels ? kChannels : f.channels;
  const A *__restrict factor = f.factor, *__restrict bias = f.bias, *__restrict style = f.style;
  for (std::int64_t column = begin; column < end; ++column) {
    const A noise = f.noise[column] * f.strength;
    const A* in = v + (column - begin) * channels;
    A* to = out + (column - begin) * channels;
#pragma omp simd
    for (std::int64_t c = 0; c < channels; ++c) {
      const A value = four_taps(taps, in[c], in[channels + c], in[2 * channels + c],
                                in[3 * channels + c]);
      to[c] = styled(value, factor[c], noise + bias[c]) * style[c];
    }
  }
}

template <typename A>
auto filter_along_of(std::int64_t channels) {
  return channels == 32   ? filter_along<32, A>
         : channels == 64 ? filter_along<64, A>
                          : filter_along<0, A>;
}

#ifdef __AVX512F__
// A whole row, if its channels fill vectors: a pixel's columns stay in registers.
template <typename T>
void blur_row(const RowFactors<float>& f, const T* x, const float* down, const float* along,
              T* y) {
  constexpr int kWide = kBlurred / kLanes;
  const std::int64_t width = f.columns + 1, row = width * f.channels;
  // What one pass over the channels leaves of the rows is in the first level of cache for the next.
  const std::int64_t block = std::max<std::int64_t>(8, kTile / 2 / f.channels);
  for (std::int64_t begin = 0; begin < f.columns; begin += block) {
    const std::int64_t end = std::min(begin + block, f.columns);
    for (std::int64_t c = 0; c < f.channels; c += kBlurred) {
      Lanes v[kWide][4], factor[kWide], bias[kWide], style[kWide];
      // One column, filtered downwards.
      const auto filter = [&](std::int64_t column, int at) {
        const T* from = x + column * f.channels + c;
        for (int k = 0; k < kWide; ++k, from += kLanes)
          v[k][at] = column < 0 || column >= width
                         ? Lanes{}
                         : four_taps(down, lanes(from), lanes(from + row), lanes(from + 2 * row),
                                     lanes(from + 3 * row));
      };
      for (int k = 0; k < kWide; ++k) {
        factor[k] = lanes(f.factor + c + k * kLanes);
        bias[k] = lanes(f.bias + c + k * kLanes);
        style[k] = lanes(f.style + c + k * kLanes);
      }
      for (int at = 1; at < 4; ++at) filter(begin - 2 + at, at);
      for (std::int64_t column = begin; column < end; ++column) {
        for (int k = 0; k < kWide; ++k)
          for (int at = 0; at < 3; ++at) v[k][at] = v[k][at + 1];
        filter(column + 2, 3);
        const float noise = f.noise[column] * f.strength;
        for (int k = 0; k < kWide; ++k) {
          const Lanes smooth = four_taps(along, v[k][0], v[k][1], v[k][2], v[k][3]);
          put(y + column * f.channels + c + k * kLanes,
              styled_lanes(smooth, factor[k], bias[k] + noise) * style[k]);
        }
      }
    }
  }
}
#endif

template <typename T>
void blur_layer(const BlurLayer& q) {
  using A = compute_t<T>;
  const Layer& p = q.layer;
  const LayerFactors<A> f(p);
  const A *down = static_cast<const A*>(q.vertical), *along = static_cast<const A*>(q.horizontal);
  const std::int64_t channels = p.channels, width = p.columns + 1;
  const std::int64_t tile = std::min(p.columns, std::max<std::int64_t>(4, kTile / channels));
  const std::int64_t rows = p.batch * p.rows;
  in_parallel(rows, rows * p.columns * channels, [&](std::int64_t from, std::int64_t to) {
    std::vector<A> filtered((tile + 3) * channels), result(tile * channels);
    for (std::int64_t at = from; at < to; ++at) {
      const std::int64_t image = at / p.rows, row = at % p.rows;
      const T* x = static_cast<const T*>(p.x) +
                   (image * (p.rows + 5) + row + 1) * width * channels;
      T* y = static_cast<T*>(p.y) + image * p.y_stride + row * p.columns * channels;
      const RowFactors<A> row_factors = f.row(p, image, row);
#ifdef __AVX512F__
      if constexpr (kHasLanes<T>) {
        if (channels % kBlurred == 0) {
          blur_row(row_factors, x, down, along, y);
          continue;
        }
      }
#endif
      for (std::int64_t begin = 0; begin < p.columns; begin += tile) {
        const std::int64_t end = std::min(begin + tile, p.columns);
        filter_down(x, width, channels, down, begin - 1, end + 2, filtered.data());
        filter_along_of<A>(channels)(row_factors, begin, end, filtered.data(), along,
                                     result.data());
        store_run(y + begin * channels, result.data(), (end - begin) * channels);
      }
    }
  });
}

// One row of the enlarged image, for one colour; `buffer` holds columns / 2 + 2 values.
template <typename A>
void enlarge_row(const A* skip, std::int64_t height, std::int64_t columns, const A* down,
                 const A* along, std::int64_t row, A* buffer, A* out) {
  const std::int64_t narrow = columns / 2;
  const Pair<A> pair = enlarged(down, row);
  const bool above = pair.index >= 0, below = pair.index + 1 < height / 2;
  const A* first = skip + (above ? pair.index : 0) * narrow;
  const A* second = skip + (below ? pair.index + 1 : 0) * narrow;
  const A one = above ? pair.first : A(0), other = below ? pair.second : A(0);
  A* v = buffer + 1;
  v[-1] = v[narrow] = 0;
#pragma omp simd
  for (std::int64_t j = 0; j < narrow; ++j) v[j] = one * first[j] + other * second[j];
#pragma omp simd
  for (std::int64_t j = 0; j < narrow; ++j) {
    out[2 * j] += along[3] * v[j - 1] + along[1] * v[j];
    out[2 * j + 1] += along[2] * v[j] + along[0] * v[j + 1];
  }
}

// One row of an image, before what its layer adds: bias and the enlarged image of the layers below.
// Returns where it is, for three colours; `buffer` holds columns / 2 + 2 values.
template <typename A>
std::array<A*, 3> rgb_below(const ToRgbLayer& q, std::int64_t image, std::int64_t row,
                                A* buffer) {
  const std::int64_t columns = q.layer.columns, below = (q.height / 2) * (columns / 2);
  std::array<A*, 3> colours;
  for (std::int64_t k = 0; k < 3; ++k) {
    const std::int64_t plane = image * 3 + k;
    colours[k] = static_cast<A*>(q.image) + (plane * q.height + row) * columns;
    std::fill(colours[k], colours[k] + columns, static_cast<const A*>(q.rgb_bias)[k]);
    if (q.skip != nullptr)
      enlarge_row(static_cast<const A*>(q.skip) + plane * below, q.height, columns,
                  static_cast<const A*>(q.vertical), static_cast<const A*>(q.horizontal), row,
                  buffer, colours[k]);
  }
  return colours;
}

// Values that are converted to float at once.
constexpr std::int64_t kConverted = 2048;

// Pixels [begin, end) of a row, the first of which is at `x`: activations, and their sums weighted
// for three colours, added to those.
template <std::int64_t kChannels, bool kKeep, typename A>
void rgb_pixels(const RowFactors<A>& f, std::int64_t begin, std::int64_t end,
                   const A* __restrict x, A* __restrict y, const A* __restrict weight,
                   A* __restrict red, A* __restrict green, A* __restrict blue) {
  const std::int64_t channels = kChannels ? kChannels : f.channels;
  const A *__restrict factor = f.factor, *__restrict bias = f.bias, *__restrict style = f.style;
  for (std::int64_t j = begin; j < end; ++j) {
    const A noise = f.noise[j] * f.strength;
    const A* in = x + (j - begin) * channels;
    A* out = y + (j - begin) * channels;
    A r = 0, g = 0, b = 0;
#pragma omp simd reduction(+ : r, g, b)
    for (std::int64_t c = 0; c < channels; ++c) {
      const A value = styled(in[c], factor[c], noise + bias[c]);
      if (kKeep) out[c] = value * style[c];
      r += value * weight[c];
      g += value * weight[channels + c];
      b += value * weight[2 * channels + c];
    }
    red[j] += r;
    green[j] += g;
    blue[j] += b;
  }
}

template <std::int64_t kChannels, bool kKeep, typename T, typename A>
void rgb_row(const RowFactors<A>& f, const T* x, T* y, const A* weight,
                const std::array<A*, 3>& colours) {
  if constexpr (std::is_same_v<T, A>) {
    rgb_pixels<kChannels, kKeep>(f, 0, f.columns, x, y, weight, colours[0], colours[1],
                                    colours[2]);
  } else {
    const std::int64_t block = std::max<std::int64_t>(1, kConverted / f.channels);
    std::vector<A> before(block * f.channels), after(kKeep ? block * f.channels : 0);
    for (std::int64_t begin = 0; begin < f.columns; begin += block) {
      const std::int64_t end = std::min(begin + block, f.columns);
      const std::int64_t start = begin * f.channels, count = (end - begin) * f.channels;
      load_run(x + start, before.data(), count);
      rgb_pixels<kChannels, kKeep>(f, begin, end, before.data(), after.data(), weight,
                                      colours[0], colours[1], colours[2]);
      if constexpr (kKeep) store_run(y + start, after.data(), count);
    }
  }
}

template <bool kKeep, typename T, typename A>
void rgb_row_of(const RowFactors<A>& f, const T* x, T* y, const A* weight,
                   const std::array<A*, 3>& colours) {
  const auto row = f.channels == 32   ? rgb_row<32, kKeep, T, A>
                   : f.channels == 64 ? rgb_row<64, kKeep, T, A>
                                      : rgb_row<0, kKeep, T, A>;
  row(f, x, y, weight, colours);
}

#ifdef __AVX512F__
// Sums of the lanes of 16 vectors. Every step halves them: what two vectors hold goes into one.
template <int kHalf>
void add_lanes(Lanes* v) {
  alignas(64) std::int32_t lower[kLanes], upper[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    // Runs of kHalf, of which every other one is lower; the second vector's come last.
    lower[i] = i / kHalf * 2 * kHalf + i % kHalf;
    upper[i] = lower[i] + kHalf;
  }
  const __m512i low = _mm512_load_si512(lower), high = _mm512_load_si512(upper);
  for (int i = 0; i < kHalf; ++i) {
    const __m512 first = (__m512)v[2 * i], second = (__m512)v[2 * i + 1];
    v[i] = (Lanes)_mm512_permutex2var_ps(first, low, second) +
           (Lanes)_mm512_permutex2var_ps(first, high, second);
  }
  if constexpr (kHalf > 1) add_lanes<kHalf / 2>(v);
}

// The epilogue of a 2x2 tile, its storing, and its colours.
template <typename T>
class RgbTile {
 public:
  // Colours are sums over all channels.
  static constexpr bool kAnyPanel = false;

  RgbTile(const ToRgbLayer& q, const LayerFactors<float>& f) : q_(q), f_(f) {}

  void tile(std::int64_t image, std::int64_t row, std::int64_t column, std::int64_t below,
            std::int64_t right) {
    const Layer& p = q_.layer;
    image_ = image;
    at_ = row * p.columns + column;
    below_ = below;
    right_ = right;
    y_ = p.y == nullptr ? nullptr
                        : static_cast<T*>(p.y) + image * p.y_stride + at_ * p.channels;
    const float* noise = static_cast<const float*>(p.noise) + at_;
    for (int r = 0; r < 2; ++r)
      for (int k = 0; k < 2; ++k)
        noise_[r][k] = r < below && k < right ? noise[r * p.columns + k] * f_.strength : 0.0f;
    for (Lanes& sum : sums_) sum = Lanes{};
  }
  void channels(std::int64_t c) {
    const std::int64_t channels = q_.layer.channels, place = image_ * channels + c;
    c_ = c;
    factor_ = lanes(f_.factor.data() + place);
    bias_ = lanes(f_.bias.data() + c);
    style_ = lanes(f_.style.data() + place);
    const float* weight = static_cast<const float*>(q_.weight) + 3 * image_ * channels + c;
    for (int k = 0; k < 3; ++k) weight_[k] = lanes(weight + k * channels);
  }
  void value(int row, int column, Lanes value, bool inside) {
    value = styled_lanes(value, factor_, bias_ + noise_[row][column]);
    for (int k = 0; k < 3; ++k) sums_[4 * k + 2 * row + column] += value * weight_[k];
    if (y_ != nullptr && inside)
      put(y_ + (row * q_.layer.columns + column) * q_.layer.channels + c_, value * style_);
  }
  void end() {
    add_lanes<8>(sums_);
    const std::int64_t plane = q_.height * q_.layer.columns;
    float* image = static_cast<float*>(q_.image) + 3 * image_ * plane + at_;
    for (int k = 0; k < 3; ++k)
      for (int r = 0; r < 2; ++r)
        for (int j = 0; j < 2; ++j)
          if (r < below_ && j < right_)
            image[k * plane + r * q_.layer.columns + j] += sums_[0][4 * k + 2 * r + j];
  }

 private:
  const ToRgbLayer& q_;
  const LayerFactors<float>& f_;
  std::int64_t image_ = 0, at_ = 0, below_ = 0, right_ = 0, c_ = 0;
  T* y_ = nullptr;
  float noise_[2][2];
  // Three colours of four pixels; the rest is filled up.
  Lanes sums_[kLanes], factor_, bias_, style_, weight_[3];
};

template <typename T>
std::int32_t to_rgb_convolution(const ToRgbConvolution& q) {
  const Layer& p = q.to_rgb.layer;
  const LayerFactors<float> f(p);
  const std::int64_t rows = p.batch * p.rows;
  in_parallel(rows, rows * p.columns, [&](std::int64_t from, std::int64_t to) {
    std::vector<float> buffer(p.columns / 2 + 2);
    for (std::int64_t at = from; at < to; ++at)
      rgb_below(q.to_rgb, at / p.rows, at % p.rows, buffer.data());
  });
  return in_panels<T, Plain>(q.convolution, RgbTile<T>(q.to_rgb, f));
}
#endif

template <typename T>
void to_rgb_layer(const ToRgbLayer& q) {
  using A = compute_t<T>;
  const Layer& p = q.layer;
  const LayerFactors<A> f(p);
  const std::int64_t channels = p.channels, columns = p.columns, rows = p.batch * p.rows;
  in_parallel(rows, rows * columns * channels, [&](std::int64_t from, std::int64_t to) {
    std::vector<A> buffer(columns / 2 + 2);
    for (std::int64_t at = from; at < to; ++at) {
      const std::int64_t image = at / p.rows, row = at % p.rows, place = p.first + row;
      const T* x = static_cast<const T*>(p.x) + at * columns * channels;
      T* y = p.y == nullptr ? nullptr
                            : static_cast<T*>(p.y) + image * p.y_stride + row * columns * channels;
      const RowFactors<A> row_factors = f.row(p, image, row);
      const A* weight = static_cast<const A*>(q.weight) + image * 3 * channels;
      const std::array<A*, 3> colours = rgb_below(q, image, place, buffer.data());
      if (y == nullptr) {
        rgb_row_of<false>(row_factors, x, y, weight, colours);
      } else {
        rgb_row_of<true>(row_factors, x, y, weight, colours);
      }
    }
  });
}

}  // namespace

RESTYLE_EXPORT std::int32_t restyle_blur_layer(const BlurLayer* q) {
  return with_dtype(q->layer.dtype, [&](auto type) { blur_layer<decltype(type)>(*q); });
}

RESTYLE_EXPORT std::int32_t restyle_to_rgb_convolution(const ToRgbConvolution* q) {
#ifdef __AVX512F__
  if (q->convolution.dtype == kFloat32) return to_rgb_convolution<float>(*q);
#endif
#ifdef __AVX512BF16__
  if (q->convolution.dtype == kBFloat16) return to_rgb_convolution<bf16>(*q);
#endif
  return kUnknownDType;
}

RESTYLE_EXPORT std::int32_t restyle_to_rgb_layer(const ToRgbLayer* q) {
  return with_dtype(q->layer.dtype, [&](auto type) { to_rgb_layer<decltype(type)>(*q); });
}

}  // namespace restyle
