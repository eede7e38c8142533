// Separable resampling of 8-bit pixels: a pixel of the result is a weighted sum over a few rows and
// columns of the photograph. So are the pixels of a level of dlib's pyramid but for its rounding:
// the steps from level to level are linear, and their product is one sum.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <utility>
#include <vector>

#include "lanes.h"

extern "C" {

// Weighted sums along one axis: sum i is of weights[i * taps + t] times element first[i] + t.
struct Sums {
  i64 count, taps;
  const std::int32_t* first;
  const float* weights;
};

// Pixels of four bytes, [rows, columns], with `stride` bytes a row; `out` is contiguous.
struct Resampling {
  const std::uint8_t* pixels;
  i64 stride, rows, columns;
  float bias;  // added before values are rounded down
  std::uint8_t* out;
};

// The axis of a photograph of `length` pixels, of which a copy has each `reduction` pixels as one:
// level `number` of the pyramid whose first level has `first` pixels, and its part [begin, end).
struct LevelAxis {
  i64 length, reduction, first, number, begin, end;
};

}  // extern "C"

namespace {

typedef float Quad __attribute__((vector_size(16)));

#ifdef __FMA__
Quad fused(Quad a, float b, Quad sum) { return Quad(_mm_fmadd_ps(__m128(a), _mm_set1_ps(b), __m128(sum))); }
#else
Quad fused(Quad a, float b, Quad sum) { return sum + a * b; }
#endif

constexpr double kPi = 3.14159265358979323846;
constexpr i64 kPixel = 4;
constexpr i64 kStrip = 4;  // vectors that are summed at once

// Weights below this hardly change a sum of 8-bit values.
constexpr float kNegligible = 4e-3f;

// Steps between levels that are followed one by one; what lies before them is taken as smooth.
constexpr i64 kSteps = 5;

struct OwnSums {
  i64 taps = 0;
  std::vector<std::int32_t> first;
  std::vector<float> weights;

  Sums view() const { return {i64(first.size()), taps, first.data(), weights.data()}; }
};

template <i64 vectors>
void add_rows(const std::uint8_t* from, i64 stride, const float* weights, i64 taps, float* to) {
  Lanes sums[vectors] = {};
  for (i64 t = 0; t < taps; ++t) {
    const Lanes weight = all(weights[t]);
    for (i64 v = 0; v < vectors; ++v)
      sums[v] = fused(load_bytes(from + t * stride + v * kLanes), weight, sums[v]);
  }
  for (i64 v = 0; v < vectors; ++v) store(to + v * kLanes, sums[v]);
}

// The weighted sum of some rows, `values` bytes each.
void add_rows(const std::uint8_t* from, i64 stride, const float* weights, i64 taps, i64 values, float* to) {
  // Padded sums have weights of zero at their ends.
  while (taps > 1 && !weights[taps - 1]) --taps;
  i64 x = 0;
  for (; x + kStrip * kLanes <= values; x += kStrip * kLanes)
    add_rows<kStrip>(from + x, stride, weights, taps, to + x);
  for (; x + kLanes <= values; x += kLanes) add_rows<1>(from + x, stride, weights, taps, to + x);
  for (; x < values; ++x) {
    float sum = 0;
    for (i64 t = 0; t < taps; ++t) sum += from[t * stride + x] * weights[t];
    to[x] = sum;
  }
}

// The weighted sum of some pixels.
Quad sum_of(const float* from, const float* weights, i64 taps, float bias) {
  Quad sum = {bias, bias, bias, bias};
  for (i64 t = 0; t < taps; ++t) {
    Quad pixel;
    std::memcpy(&pixel, from + t * kPixel, sizeof pixel);
    sum = fused(pixel, weights[t], sum);
  }
  return sum;
}

// Four pixels as bytes, rounded towards zero.
void store_bytes(const Quad (&sums)[kPixel], std::uint8_t* to) {
#ifdef __SSE4_1__
  const auto whole = [&](int i) { return _mm_cvttps_epi32(__m128(sums[i])); };
  const __m128i low = _mm_packus_epi32(whole(0), whole(1)), high = _mm_packus_epi32(whole(2), whole(3));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(low, high));
#else
  for (i64 i = 0; i < kPixel; ++i)
    for (i64 k = 0; k < kPixel; ++k)
      to[i * kPixel + k] = std::uint8_t(std::min(std::max(sums[i][k], 0.0f), 255.0f));
#endif
}

void add_columns(const float* row, const Sums& columns, i64 offset, float bias, std::uint8_t* out) {
  Quad sums[kPixel] = {};
  for (i64 c = 0; c < columns.count; c += kPixel) {
    const i64 count = std::min(columns.count - c, kPixel);
    for (i64 i = 0; i < count; ++i)
      sums[i] = sum_of(row + (columns.first[c + i] - offset) * kPixel, columns.weights + (c + i) * columns.taps,
                       columns.taps, bias);
    if (count == kPixel) {
      store_bytes(sums, out + c * kPixel);
    } else {
      std::uint8_t last[kPixel * kPixel];
      store_bytes(sums, last);
      std::memcpy(out + c * kPixel, last, count * kPixel);
    }
  }
}

void resample(const Resampling& to, const Sums& rows, const Sums& columns) {
  i64 begin = to.columns, end = 0;
  for (i64 c = 0; c < columns.count; ++c) {
    begin = std::min<i64>(begin, columns.first[c]);
    end = std::max<i64>(end, std::min(columns.first[c] + columns.taps, to.columns));
  }
  // Taps beyond the last column have no weight, but are read.
  std::vector<float> sums((end - begin + columns.taps) * kPixel + kLanes, 0.0f);
  for (i64 r = 0; r < rows.count; ++r) {
    const i64 taps = std::min(rows.taps, to.rows - rows.first[r]);
    add_rows(to.pixels + rows.first[r] * to.stride + begin * kPixel, to.stride, rows.weights + r * rows.taps,
             taps, (end - begin) * kPixel, sums.data());
    add_columns(sums.data(), columns, begin, to.bias, to.out + r * columns.count * kPixel);
  }
}

// The elements [begin, end) of a level that follow from the level before, of `from` pixels, as dlib
// resamples it: corners lie on corners.
struct Step {
  i64 from, to;
  double place(i64 i) const { return double(i) * (from - 1) / std::max<i64>(to - 1, 1); }
  i64 left(i64 i) const { return std::min<i64>(i64(place(i) + 1e-9), from - 1); }
  i64 right(i64 i) const { return std::min(left(i) + 1, from - 1); }
  float share(i64 i) const { return float(std::max(place(i) - left(i), 0.0)); }
};

// A part of a level as sums over the photograph, of different lengths.
class Part {
 public:
  explicit Part(i64 begin) : begin_(begin) {}

  // Begins the next sum, from pixel `first` on.
  void begin(i64 first) {
    first_.push_back(first);
    starts_.push_back(i64(weights_.size()));
  }

  // Adds to the last sum `share` of sum `i` of another part.
  void add(const Part& other, i64 i, float share) {
    i -= other.begin_;
    const i64 shift = other.first_[i] - first_.back(), start = starts_.back() + shift;
    if (share == 0.0f) return;
    const i64 end = start + other.count(i);
    if (end > i64(weights_.size())) weights_.resize(end, 0.0f);
    for (i64 t = start, from = other.starts_[i]; t < end; ++t, ++from) weights_[t] += share * other.weights_[from];
  }

  void put(float weight) { weights_.push_back(weight); }

  // Drops negligible weights at the ends of the last sum.
  void trim(float least) {
    i64 skipped = 0;
    const i64 start = starts_.back();
    while (i64(weights_.size()) - start > 1 && weights_.back() < least) weights_.pop_back();
    while (start + skipped + 1 < i64(weights_.size()) && weights_[start + skipped] < least) ++skipped;
    weights_.erase(weights_.begin() + start, weights_.begin() + start + skipped);
    first_.back() += skipped;
  }

  i64 size() const { return i64(first_.size()); }
  i64 first_of(i64 i) const { return first_[i - begin_]; }
  i64 first(i64 i) const { return first_[i]; }
  i64 count(i64 i) const { return (i + 1 < size() ? starts_[i + 1] : i64(weights_.size())) - starts_[i]; }
  const float* weights(i64 i) const { return weights_.data() + starts_[i]; }

 private:
  i64 begin_;
  std::vector<i64> first_, starts_;
  std::vector<float> weights_;
};

// Variance in pixels of the photograph of what the steps to a level of that number weigh, on average
// over their phases: 1/8 for the enlargement to the first level, and 0.16 of its pixels for a step by 6/5.
double variance(i64 number) { return 0.125 + 0.04 * (std::pow(1.44, double(number)) - 1) / 0.44; }

// A level as normal distributions over a copy of the photograph, of which the copy has averaged some.
Part smoothed(const LevelAxis& axis, i64 number, i64 size, i64 begin, i64 end) {
  const double reduction = double(axis.reduction);
  const double spread =
      std::max((variance(number) - (reduction * reduction - 1) / 12) / (reduction * reduction), 0.1);
  const i64 last = axis.length / axis.reduction - 1, reach = i64(std::ceil(3 * std::sqrt(spread)));
  const Step whole{axis.length, size};
  Part part(begin);
  for (i64 i = begin; i < end; ++i) {
    const double centre = std::min((whole.place(i) + 0.5) / reduction - 0.5, double(last));
    const i64 low = std::max<i64>(i64(std::floor(centre)) - reach, 0), high = std::min(low + 2 * reach + 1, last);
    part.begin(low);
    for (i64 at = low; at <= high; ++at)
      part.put(float(std::exp((at - centre) * (centre - at) / (2 * spread)) / std::sqrt(2 * kPi * spread)));
  }
  return part;
}

// The same weights in rows of one length, with a sum of one.
OwnSums padded(const Part& part) {
  OwnSums sums;
  for (i64 i = 0; i < part.size(); ++i) sums.taps = std::max(sums.taps, part.count(i));
  sums.weights.assign(part.size() * sums.taps, 0.0f);
  for (i64 i = 0; i < part.size(); ++i) {
    sums.first.push_back(std::int32_t(part.first(i)));
    const float* weights = part.weights(i);
    const float total = std::accumulate(weights, weights + part.count(i), 0.0f);
    for (i64 t = 0; t < part.count(i); ++t) sums.weights[i * sums.taps + t] = weights[t] / total;
  }
  return sums;
}

OwnSums sums_of(const LevelAxis& axis) {
  const i64 start = std::max<i64>(axis.number - kSteps, 0);
  i64 size = axis.first;
  for (i64 k = 0; k < start; ++k) size = 5 * size / 6;
  std::vector<Step> steps;
  for (i64 k = start, from = size; k < axis.number; ++k, from = steps.back().to)
    steps.push_back({from, 5 * from / 6});
  // From the last step back: the part of the level before that each needs.
  std::vector<std::pair<i64, i64>> ranges = {{axis.begin, axis.end}};
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
    const auto [begin, end] = ranges.back();
    ranges.push_back({step->left(begin), step->right(end - 1) + 1});
  }
  Part part = smoothed(axis, start, size, ranges.back().first, ranges.back().second);
  for (const Step& step : steps) {
    ranges.pop_back();
    const auto [begin, end] = ranges.back();
    Part next(begin);
    for (i64 i = begin; i < end; ++i) {
      const i64 left = step.left(i), right = step.right(i);
      const float share = step.share(i);
      next.begin(std::min(part.first_of(left), part.first_of(right)));
      next.add(part, left, 1.0f - share);
      next.add(part, right, share);
      next.trim(kNegligible);
    }
    part = std::move(next);
  }
  return padded(part);
}

}  // namespace

#define RESTYLE_EXPORT extern "C" __attribute__((visibility("default")))

RESTYLE_EXPORT void restyle_resample(const Resampling* to, const Sums* rows, const Sums* columns) {
  resample(*to, *rows, *columns);
}

RESTYLE_EXPORT void restyle_resample_level(const Resampling* to, const LevelAxis* rows, const LevelAxis* columns) {
  const OwnSums down = sums_of(*rows), across = sums_of(*columns);
  resample(*to, down.view(), across.view());
}

// Means of two by two pixels: out is [rows / 2, columns / 2].
RESTYLE_EXPORT void restyle_halve(const Resampling* to) {
  const i64 rows = to->rows / 2, columns = to->columns / 2;
  for (i64 r = 0; r < rows; ++r) {
    const std::uint8_t *above = to->pixels + 2 * r * to->stride, *below = above + to->stride;
    std::uint8_t* out = to->out + r * columns * kPixel;
    for (i64 c = 0; c < columns; ++c) {
      for (i64 k = 0; k < kPixel; ++k) {
        const i64 at = 2 * c * kPixel + k;
        out[c * kPixel + k] =
            std::uint8_t((above[at] + above[at + kPixel] + below[at] + below[at + kPixel] + 2) >> 2);
      }
    }
  }
}
