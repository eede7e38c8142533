// dlib's frontal face detector on a photograph: a pyramid of levels, each 5/6 of the one before,
// histograms of oriented gradients in cells of 8 pixels (Felzenszwalb et al., "Object Detection with
// Discriminatively Trained Part Based Models"), and five filters of 10 x 10 cells.
//
// Rows stream: a row of the photograph passes through all levels before the next is read, and a
// level holds a few rows of pixels, of histograms and of scores. So memory grows with the width of
// the photograph alone. Pixels are rounded as dlib rounds them, with the same operations in the same
// order (compiled without contraction), because flat regions amplify any other rounding.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "lanes.h"

namespace {

constexpr i64 kCell = 8, kBins = 18, kPlanes = 31, kSide = 10, kChannels = 3;
constexpr i64 kBefore = 4;  // cells that a window may hang out at the left and at the top
constexpr i64 kPad = 64;    // readable values behind every row
constexpr i64 kFront = 16;  // zeros in front of a row of features

#ifdef __AVX512F__
// Adds the values whose last five bits are `bin` to a sum, and times a weight to another.
void add_of_bin(Lanes packed, std::int32_t bin, Lanes weight, Lanes& sum, Lanes& weighted) {
  const __m512i bits = _mm512_and_si512(__m512i(packed), _mm512_set1_epi32(31));
  const __mmask16 is_bin = _mm512_cmpeq_epi32_mask(bits, _mm512_set1_epi32(bin));
  sum = Lanes(_mm512_mask_add_ps(__m512(sum), is_bin, __m512(sum), __m512(packed)));
  weighted = Lanes(_mm512_mask3_fmadd_ps(__m512(packed), __m512(weight), __m512(weighted), is_bin));
}
#else
void add_of_bin(Lanes packed, std::int32_t bin, Lanes weight, Lanes& sum, Lanes& weighted) {
  const Lanes size = (Ints(packed) & 31) == bin ? packed : Lanes{};
  sum += size;
  weighted += size * weight;
}
#endif

Lanes least(Lanes a, Lanes b) { return a < b ? a : b; }

Lanes root(Lanes x) {
  for (i64 i = 0; i < kLanes; ++i) x[i] = std::sqrt(x[i]);
  return x;
}

}  // namespace

extern "C" {

// One of the separable terms of a filter: the sum over planes of column x row.
struct HogTerm {
  std::int32_t plane;
  float row[10], column[10];
};

struct HogHit {
  std::int32_t level, x, y, filter;  // cells of the level at the window's upper left corner
  float score;                       // above the filter's own threshold
};

// What is scanned. `pixels` is [held_rows, held_columns, `step`], red, green and blue first, with
// `stride` bytes a row: the part of a photograph of rows x columns that begins at (first_row, first_column). The first level is resampled
// from it as by dlib; or, with `unchanged`, it is the first level.
struct HogScan {
  const std::uint8_t* pixels;
  i64 stride, step, rows, columns, first_row, first_column, held_rows, held_columns;
  std::int32_t unchanged;
  std::int32_t first, last, scored;  // levels from first to last, of which scored and later count
  i64 level_rows, level_columns;     // of the whole first level
  i64 top, left, bottom, right;      // the part of the first level that is computed
  const HogTerm* terms;
  const std::int32_t* terms_of;  // [filters + 1]: where the terms of each filter begin
  const double* thresholds;
  std::int32_t filters;
  float margin;  // score above the threshold that a hit needs
  HogHit* hits;
  i64 room, found;
};

}  // extern "C"

namespace {

// Positions of a resampled axis: the pixel to the left and the share of the one to its right.
struct Axis {
  std::vector<std::int32_t> left;
  std::vector<float> share, rest;
  std::vector<double> tail_share;
  i64 tail;  // from here on dlib computes in double precision

  // Positions along a row, as dlib adds them up: four at a time in single precision.
  static Axis of_columns(i64 from, i64 to) {
    Axis axis(to);
    const double scale = (from - 1) / double(std::max<i64>(to - 1, 1));
    float x[4];
    for (int i = 0; i < 4; ++i) x[i] = float(-4 * scale + i * scale);
    const float step = float(4 * scale);
    i64 c = 0;
    for (;; c += 4) {
      for (int i = 0; i < 4; ++i) x[i] += step;
      if (std::int32_t(x[3]) + 1 >= from || c + 4 > to) break;
      for (int i = 0; i < 4; ++i) axis.put(c + i, std::int32_t(x[i]), x[i]);
    }
    axis.tail = c;
    double at = -scale + c * scale;
    for (; c < to; ++c) {
      at += scale;
      axis.put_tail(c, at);
    }
    return axis;
  }

  // Positions down the columns: added up in double precision.
  static Axis of_rows(i64 from, i64 to) {
    Axis axis(to);
    const double scale = (from - 1) / double(std::max<i64>(to - 1, 1));
    double at = -scale;
    axis.tail = 0;
    for (i64 r = 0; r < to; ++r) {
      at += scale;
      axis.put_tail(r, at);
    }
    return axis;
  }

 private:
  explicit Axis(i64 count)
      : left(count + kPad), share(count + kPad), rest(count + kPad), tail_share(count), tail(count) {}

  void put(i64 at, std::int32_t pixel, float position) {
    left[at] = pixel;
    share[at] = position - float(pixel);
    rest[at] = 1.0f - share[at];
    tail_share[at] = share[at];
  }

  void put_tail(i64 at, double position) {
    left[at] = std::int32_t(std::floor(position));
    tail_share[at] = position - left[at];
    share[at] = float(tail_share[at]);
    rest[at] = float(1.0 - tail_share[at]);
  }
};

// A row of pixels: three planes of values from 0 to 255.
struct Row {
  std::vector<float> values;
  i64 plane;

  explicit Row(i64 width) : values((width + kPad) * kChannels), plane(width + kPad) {}
  float* channel(i64 c) { return values.data() + c * plane; }
  const float* channel(i64 c) const { return values.data() + c * plane; }
};

Lanes truncated(Lanes x) {
  return __builtin_convertvector(__builtin_convertvector(x, Ints), Lanes);
}

#ifdef __AVX512F__
// The values at `indices`, which span less than 32 pixels.
Lanes picked(const float* from, Ints indices) {
  return Lanes(_mm512_permutex2var_ps(__m512(load(from)), __m512i(indices), __m512(load(from + kLanes))));
}
#else
Lanes picked(const float* from, Ints indices) {
  Lanes lanes;
  for (i64 i = 0; i < kLanes; ++i) lanes[i] = from[indices[i]];
  return lanes;
}
#endif

// Bilinear interpolation of columns [begin, end) between two rows; `first` is the column of the
// rows' first pixel, `out` begins with column `begin`.
void resample(const Row& top, const Row& bottom, i64 first, i64 width, const Axis& columns, i64 begin,
              i64 end, float down, float up, double exact_down, Row& out) {
  const i64 tail = std::min(std::max(columns.tail, begin), end);
  for (i64 c = begin; c < tail; c += kLanes) {
    const Lanes share = load(&columns.share[c]), rest = load(&columns.rest[c]);
    Ints left;
    std::memcpy(&left, &columns.left[c], sizeof left);
    const i64 base = left[0];
    left -= std::int32_t(base);
    if (c + kLanes > tail) {  // lanes behind the end hold other positions
      for (i64 i = tail - c; i < kLanes; ++i) left[i] = 0;
    }
    const Ints right = left + 1;
    const Lanes tl = up * rest, tr = up * share, bl = down * rest, br = down * share;
    for (i64 k = 0; k < kChannels; ++k) {
      const float *above = top.channel(k) + base - first, *below = bottom.channel(k) + base - first;
      Lanes sum = tl * picked(above, left) + tr * picked(above, right);
      sum = sum + bl * picked(below, left);
      sum = sum + br * picked(below, right);
      store(out.channel(k) + c - begin, truncated(sum));
    }
  }
  for (i64 c = tail; c < end; ++c) {
    const i64 left = columns.left[c] - first, right = std::min(left + 1, width - 1);
    const double share = columns.tail_share[c];
    for (i64 k = 0; k < kChannels; ++k) {
      const float *above = top.channel(k), *below = bottom.channel(k);
      const double value =
          (1 - exact_down) * ((1 - share) * above[left] + share * above[right]) +
          exact_down * ((1 - share) * below[left] + share * below[right]);
      out.channel(k)[c - begin] = float(int(value));
    }
  }
}

// Components of the directions 0, 20, ..., 80 degrees, with dlib's digits.
constexpr float kAcross[5] = {1.0000f, 0.9397f, 0.7660f, 0.500f, 0.1736f};
constexpr float kDown[5] = {0.0000f, 0.3420f, 0.6428f, 0.8660f, 0.9848f};

// One level of the pyramid. Its part begins at multiples of a cell, so that its cells are those of
// the whole level.
class Level {
 public:
  Level(HogScan& scan, std::int32_t number, i64 rows, i64 columns, i64 top, i64 left, i64 bottom,
        i64 right)
      : scan_(scan), number_(number), rows_(rows), columns_(columns), top_(top), left_(left),
        bottom_(bottom), right_(right), width_(right - left), scored_(number >= scan.scored) {
    for (int i = 0; i < 3; ++i) ring_.emplace_back(width_);
    // dlib rounds to whole cells.
    const i64 cell_rows = i64(float(rows) / float(kCell) + 0.5);
    const i64 cell_columns = i64(float(columns) / float(kCell) + 0.5);
    const bool ends_right = right == columns, ends_below = bottom == rows;
    first_cell_ = left / kCell;
    first_cell_row_ = top / kCell;
    cells_ = (ends_right ? cell_columns : right / kCell) - first_cell_;
    cell_rows_ = (ends_below ? cell_rows : bottom / kCell) - first_cell_row_;
    x_end_ = std::min(ends_right ? cell_columns * kCell : right, right) - 1;
    y_end_ = std::min(ends_below ? cell_rows * kCell : bottom, bottom) - 1;
    hog_ = cells_ - 2;
    hog_rows_ = cell_rows_ - 2;
    // Cells at an edge that is none of the level's lack votes.
    x_low_ = left ? 1 : -kBefore;
    y_low_ = top ? 1 : -kBefore;
    x_high_ = ends_right ? hog_ - 5 : hog_ - 1 - kSide;
    y_high_ = ends_below ? hog_rows_ - 5 : hog_rows_ - 1 - kSide;
    if (!scored_ || hog_ < 1 || hog_rows_ < 1 || x_high_ < x_low_ || y_high_ < y_low_) {
      scored_ = false;
      return;
    }
    groups_ = width_ / kCell + 2;
    votes_.assign(kCell * kCell * (groups_ + kPad), 0.0f);
    line_.assign(width_ + 2 * kPad, 0.0f);
    const i64 histogram = kBins * stride_of_cells();
    for (auto& each : histograms_) each.assign(histogram, 0.0f);
    for (auto& each : norms_) each.assign(stride_of_cells(), 0.0f);
    features_.assign(kPlanes * stride_of_features(), 0.0f);
    scores_.assign(scan.filters * kSide * stride_of_features(), 0.0f);
  }

  void follow_with(std::unique_ptr<Level> next) {
    columns_of_next_ = Axis::of_columns(columns_, next->columns_);
    rows_of_next_ = Axis::of_rows(rows_, next->rows_);
    next_ = std::move(next);
    next_row_ = next_->top_;
  }

  i64 top() const { return top_; }
  i64 left() const { return left_; }
  i64 bottom() const { return bottom_; }
  i64 right() const { return right_; }
  i64 rows() const { return rows_; }
  i64 columns() const { return columns_; }

  // Where the next row is to be written, before push().
  Row& slot() { return ring_[(pushed_ + top_) % 3]; }

  void push() {
    const i64 y = top_ + pushed_++;
    if (scored_ && y >= top_ + 2 && y - 1 < y_end_) vote(y - 1);
    if (next_) feed(y);
    if (y == bottom_ - 1 && scored_) finish();
  }

 private:
  i64 stride_of_cells() const { return cells_ + 2 * kPad; }
  i64 stride_of_features() const { return cells_ + 2 * kPad; }
  float* histogram(i64 row) { return histograms_[row & 3].data() + kFront; }
  float* norm(i64 row) { return norms_[row & 3].data() + kFront; }

  void feed(i64 y) {
    while (next_row_ < next_->bottom_) {
      const i64 above = rows_of_next_.left[next_row_], below = std::min(above + 1, rows_ - 1);
      if (below > y) return;
      resample(ring_[above % 3], ring_[below % 3], left_, width_,
               columns_of_next_, next_->left_, next_->right_, rows_of_next_.share[next_row_],
               rows_of_next_.rest[next_row_], rows_of_next_.tail_share[next_row_], next_->slot());
      ++next_row_;
      next_->push();
    }
  }

  // Adds the gradients of row y, which are complete once row y + 1 is there, to the votes of its
  // band: the rows nearest to the border of two cells.
  void vote(i64 y) {
    const i64 band = (y - top_ + kCell / 2) / kCell, place = (y - top_ + kCell / 2) % kCell;
    while (band_ < band) flush();
    gradients(ring_[(y - 1) % 3], ring_[y % 3], ring_[(y + 1) % 3]);
    // Lanes will hold the same column of 16 cells.
    const float* line = line_.data() + kPad - kCell / 2;
    float* votes = votes_.data() + place * kCell * (groups_ + kPad);
    for (i64 t = 0; t < kCell; ++t) {
      float* to = votes + t * (groups_ + kPad);
      for (i64 j = 0; j < groups_; ++j) to[j] = line[j * kCell + t];
    }
  }

  // Length and orientation of the strongest channel's gradient; the orientation, one of 18, takes
  // the place of the last five bits of the length, which are below its accuracy here.
  void gradients(const Row& above, const Row& row, const Row& below) {
    float* line = line_.data() + kPad;
    const i64 end = x_end_ - left_;
    for (i64 x = 1; x < end; x += kLanes) {
      Lanes across, down, length;
      for (i64 k = 0; k < kChannels; ++k) {
        const float* middle = row.channel(k) + x;
        const Lanes gx = load(middle + 1) - load(middle - 1);
        const Lanes gy = load(below.channel(k) + x) - load(above.channel(k) + x);
        const Lanes squared = gx * gx + gy * gy;
        if (k == 0) {
          across = gx, down = gy, length = squared;
        } else {
          const Ints stronger = length > squared;
          across = stronger ? across : gx;
          down = stronger ? down : gy;
          length = stronger ? length : squared;
        }
      }
      const Ints up = down < 0, back = across < 0;
      const Lanes x_length = back ? -across : across, y_length = up ? -down : down;
      Lanes best = x_length;
      Ints bin = Ints{};
      for (int o = 1; o < 5; ++o) {
        const Lanes dot = x_length * kAcross[o] + y_length * kDown[o];
        const Ints better = dot > best;
        best = better ? dot : best;
        bin = better ? Ints{} + o : bin;
      }
      const Ints is_mirrored = (across * down < 0) & (bin != 0);
      bin = is_mirrored ? 9 - bin : bin;
      const Ints is_negative = bin == 0 ? back : up;
      bin = is_negative ? bin + 9 : bin;
      const Lanes size = root(length);
      const Ints packed = (Ints(size) & ~31) | bin;
      store(line + x, Lanes(packed));
    }
    // What lies behind the last visible column does not vote.
    std::fill(line + std::max<i64>(end, 1), line + width_ + kPad, 0.0f);
    line[0] = 0.0f;
  }

  // Spreads the votes of a band over the four cells around each pixel.
  void flush() {
    const i64 stride = groups_ + kPad;
    // What the first band gives to the cells above the level goes into a row that is cleared below.
    float *upper = histogram(band_ + 3), *lower = histogram(band_);
    const i64 plane = stride_of_cells();
    for (i64 j = 0; j < groups_; j += kLanes) {
      for (i64 o = 0; o < kBins; ++o) {
        Lanes sum{}, right{}, low{}, low_right{};
        for (i64 t = 0; t < kCell; ++t) {
          Lanes s{}, d{};
          for (i64 r = 0; r < kCell; ++r) {
            const Lanes weight = all((r + 0.5f) / kCell);
            add_of_bin(load(&votes_[(r * kCell + t) * stride + j]), std::int32_t(o), weight, s, d);
          }
          const float share = (t + 0.5f) / kCell;
          sum += s, right += s * share, low += d, low_right += d * share;
        }
        float *a = upper + o * plane + j, *b = lower + o * plane + j;
        store(a - 1, load(a - 1) + (sum - right - low + low_right));
        store(a, load(a) + (right - low_right));
        store(b - 1, load(b - 1) + (low - low_right));
        store(b, load(b) + low_right);
      }
    }
    std::fill(votes_.begin(), votes_.end(), 0.0f);
    if (band_ > 0) complete(band_ - 1);
    ++band_;
    // The row after the next one begins empty.
    auto& later = histograms_[band_ & 3];
    std::fill(later.begin(), later.end(), 0.0f);
  }

  // A row of histograms is complete: its norm, and the features of the row before it.
  void complete(i64 row) {
    if (row >= cell_rows_) return;
    const i64 plane = stride_of_cells();
    float *h = histogram(row), *n = norm(row);
    for (i64 x = 0; x < cells_; x += kLanes) {
      Lanes sum{};
      for (i64 o = 0; o < 9; ++o) {
        const Lanes both = load(h + o * plane + x) + load(h + (o + 9) * plane + x);
        sum += both * both;
      }
      store(n + x, sum);
    }
    if (row >= 2) describe(row - 2);
  }

  // The 31 features of row y of the cells (Felzenszwalb et al., section 6.2, without projection).
  void describe(i64 y) {
    const i64 plane = stride_of_cells(), to = stride_of_features();
    const float *n0 = norm(y), *n1 = norm(y + 1), *n2 = norm(y + 2), *h = histogram(y + 1);
    float* features = features_.data() + kFront;
    for (i64 x = 0; x < hog_; x += kLanes) {
      const auto block = [&](const float* a, const float* b, i64 at) {
        return load(a + at) + load(a + at + 1) + load(b + at) + load(b + at + 1) + 0.0001f;
      };
      const Lanes energies[4] = {block(n1, n2, x + 1), block(n0, n1, x + 1), block(n1, n2, x),
                                 block(n0, n1, x)};
      Lanes cap[4], factor[4], texture[4] = {};
      for (int i = 0; i < 4; ++i) cap[i] = 0.2f * root(energies[i]), factor[i] = 0.1f / cap[i];
      const auto feature = [&](Lanes value, bool textured) {
        Lanes sum{};
        for (int i = 0; i < 4; ++i) {
          const Lanes part = least(value, cap[i]) * factor[i];
          sum += part;
          if (textured) texture[i] += part;
        }
        return sum;
      };
      for (i64 o = 0; o < kBins; ++o)
        store(features + o * to + x, feature(load(h + o * plane + x + 1), true));
      for (i64 o = 0; o < 9; ++o)
        store(features + (kBins + o) * to + x,
              feature(load(h + o * plane + x + 1) + load(h + (o + 9) * plane + x + 1), false));
      for (i64 i = 0; i < 4; ++i)
        store(features + (27 + i) * to + x, texture[i] * float(2 * 0.2357));
    }
    for (i64 o = 0; o < kPlanes; ++o) std::fill_n(features + o * to + hog_, kPad / 2, 0.0f);
    correlate(y);
  }

  // Adds a row of features to the scores of the ten rows of windows that hold it.
  void correlate(i64 y) {
    const i64 to = stride_of_features();
    const i64 count = hog_ - 5 + kBefore + 1;
    for (std::int32_t f = 0; f < scan_.filters; ++f) {
      float* scores = scores_.data() + f * kSide * to;
      const HogTerm *begin = scan_.terms + scan_.terms_of[f], *end = scan_.terms + scan_.terms_of[f + 1];
      i64 x = 0;
      for (; x + kLanes < count; x += 2 * kLanes) correlate<2>(y, x, begin, end, scores);
      if (x < count) correlate<1>(y, x, begin, end, scores);
    }
    tell(y - kSide + 1);
  }

  // The same for one filter and the windows of some vectors, from column x on.
  template <int vectors>
  void correlate(i64 y, i64 x, const HogTerm* begin, const HogTerm* end, float* scores) {
    const i64 to = stride_of_features();
    const float* features = features_.data() + kFront - kBefore + x;
    Lanes sums[kSide][vectors] = {};
    for (const HogTerm* term = begin; term < end; ++term) {
      const float* plane = features + term->plane * to;
      // Two sums each, because a multiply-add waits for the one before it.
      Lanes even[vectors] = {}, odd[vectors] = {};
      for (i64 n = 0; n < kSide; n += 2) {
        const Lanes one = all(term->row[n]), other = all(term->row[n + 1]);
        for (int v = 0; v < vectors; ++v) {
          even[v] = fused(load(plane + n + v * kLanes), one, even[v]);
          odd[v] = fused(load(plane + n + 1 + v * kLanes), other, odd[v]);
        }
      }
      for (int v = 0; v < vectors; ++v) even[v] += odd[v];
      for (i64 m = 0; m < kSide; ++m) {
        const Lanes share = all(term->column[m]);
        for (int v = 0; v < vectors; ++v) sums[m][v] = fused(even[v], share, sums[m][v]);
      }
    }
    // The window that begins at row y - m has this row as its m-th.
    for (i64 m = 0; m < kSide; ++m) {
      for (int v = 0; v < vectors; ++v) {
        float* at = scores + ((y - m + 2 * kSide) % kSide) * to + x + v * kLanes;
        store(at, load(at) + sums[m][v]);
      }
    }
  }

  // Reports the hits among the windows of a row, and clears their scores.
  void tell(i64 y) {
    const i64 to = stride_of_features();
    for (std::int32_t f = 0; f < scan_.filters; ++f) {
      float* scores = scores_.data() + (f * kSide + (y + 2 * kSide) % kSide) * to;
      const float least = float(scan_.thresholds[f] + scan_.margin);
      if (y >= y_low_ && y <= y_high_) {
        for (i64 x = x_low_; x <= x_high_; ++x) {
          const float score = scores[x + kBefore];
          if (score < least) continue;
          if (scan_.found < scan_.room)
            scan_.hits[scan_.found] = {number_, std::int32_t(x + first_cell_),
                                       std::int32_t(y + first_cell_row_), f,
                                       float(double(score) - scan_.thresholds[f])};
          ++scan_.found;
        }
      }
      std::fill_n(scores, to, 0.0f);
    }
  }

  void finish() {
    // Two bands more: the last rows of cells, and the half cell below.
    while (band_ <= cell_rows_) flush();
    for (i64 y = hog_rows_ - kSide + 1; y <= hog_rows_ - 5; ++y) tell(y);
  }

  HogScan& scan_;
  std::int32_t number_;
  i64 rows_, columns_, top_, left_, bottom_, right_, width_;
  bool scored_;
  i64 first_cell_, first_cell_row_, cells_, cell_rows_, x_end_, y_end_, hog_, hog_rows_;
  i64 x_low_, x_high_, y_low_, y_high_, groups_ = 0;
  i64 pushed_ = 0, next_row_ = 0, band_ = 0;
  std::vector<Row> ring_;
  std::vector<float> votes_, line_, features_, scores_;
  std::vector<float> histograms_[4], norms_[4];
  Axis columns_of_next_ = Axis::of_rows(1, 1), rows_of_next_ = Axis::of_rows(1, 1);
  std::unique_ptr<Level> next_;
};

// Part [begin, end) of a resampled axis that follows from part [low, high) of the axis before it;
// begins at a multiple of `unit`.
void follows(const Axis& axis, i64 from, i64 to, i64 low, i64 high, i64 unit, i64& begin, i64& end) {
  begin = 0;
  while (begin < to && axis.left[begin] < low) ++begin;
  begin = (begin + unit - 1) / unit * unit;
  end = to;
  while (end > begin && std::min<i64>(axis.left[end - 1] + 1, from - 1) >= high) --end;
}

// Reads some columns of row y of the photograph, from `first` on, of those that are held.
void read(const HogScan& scan, i64 y, i64 first, i64 count, Row& row) {
  const std::uint8_t* from = scan.pixels + (y - scan.first_row) * scan.stride + first * scan.step;
  float *red = row.channel(0), *green = row.channel(1), *blue = row.channel(2);
  i64 x = 0;
  if (scan.step == sizeof(std::int32_t)) {
    for (; x + kLanes <= count; x += kLanes) {
      Ints pixels;
      std::memcpy(&pixels, from + x * scan.step, sizeof pixels);
      store(red + x, __builtin_convertvector(pixels & 255, Lanes));
      store(green + x, __builtin_convertvector(pixels >> 8 & 255, Lanes));
      store(blue + x, __builtin_convertvector(pixels >> 16 & 255, Lanes));
    }
  }
  for (; x < count; ++x) {
    const std::uint8_t* pixel = from + x * scan.step;
    red[x] = pixel[0], green[x] = pixel[1], blue[x] = pixel[2];
  }
}

// Feeds the rows of a first level whose pixels are those of the photograph.
void feed_unchanged(const HogScan& scan, Level& level) {
  for (i64 r = scan.top; r < scan.bottom; ++r) {
    read(scan, r, scan.left - scan.first_column, scan.right - scan.left, level.slot());
    level.push();
  }
}

// Feeds the rows of a first level that is resampled from the photograph.
void feed_resampled(const HogScan& scan, Level& level) {
  const Axis rows = Axis::of_rows(scan.rows, scan.level_rows);
  const Axis columns = Axis::of_columns(scan.columns, scan.level_columns);
  Row held[2] = {Row(scan.held_columns), Row(scan.held_columns)};
  i64 which[2] = {-1, -1};
  for (i64 r = scan.top; r < scan.bottom; ++r) {
    const i64 above = rows.left[r], below = std::min(above + 1, scan.rows - 1);
    for (const i64 y : {above, below}) {
      if (which[y & 1] == y) continue;
      read(scan, y, 0, scan.held_columns, held[y & 1]);
      which[y & 1] = y;
    }
    resample(held[above & 1], held[below & 1], scan.first_column, scan.held_columns, columns, scan.left, scan.right,
             rows.share[r], rows.rest[r], rows.tail_share[r], level.slot());
    level.push();
  }
}

}  // namespace

// Scans a photograph; the hits are in no order, and `found` may exceed `room`.
extern "C" __attribute__((visibility("default"))) std::int32_t restyle_hog_scan(HogScan* scan) {
  scan->found = 0;
  auto first = std::make_unique<Level>(*scan, scan->first, scan->level_rows, scan->level_columns,
                                       scan->top, scan->left, scan->bottom, scan->right);
  std::vector<std::unique_ptr<Level>> levels;
  levels.push_back(std::move(first));
  for (std::int32_t number = scan->first + 1; number <= scan->last; ++number) {
    const Level& before = *levels.back();
    const i64 rows = 5 * before.rows() / 6, columns = 5 * before.columns() / 6;
    // Only where windows are scored do cells have to be those of the whole level.
    const i64 unit = number < scan->scored ? 1 : kCell;
    i64 top, left, bottom, right;
    follows(Axis::of_rows(before.rows(), rows), before.rows(), rows, before.top(), before.bottom(), unit,
            top, bottom);
    follows(Axis::of_columns(before.columns(), columns), before.columns(), columns, before.left(),
            before.right(), unit, left, right);
    if (right - left < kCell || bottom - top < kCell) break;
    levels.push_back(
        std::make_unique<Level>(*scan, number, rows, columns, top, left, bottom, right));
  }
  while (levels.size() > 1) {
    auto next = std::move(levels.back());
    levels.pop_back();
    levels.back()->follow_with(std::move(next));
  }
  Level& level = *levels.front();
  if (scan->unchanged) {
    feed_unchanged(*scan, level);
  } else {
    feed_resampled(*scan, level);
  }
  return 0;
}
