// 3x3 convolutions of any network, with a bias and a leaky ReLU.
#include "winograd.h"

namespace restyle {
#ifdef __AVX512F__
namespace {

// Bias and leaky ReLU.
template <typename T>
class Activated {
 public:
  // Channels do not meet: threads may share them.
  static constexpr bool kAnyPanel = true;

  explicit Activated(const Winograd& p) : p_(p) {}

  void tile(std::int64_t image, std::int64_t row, std::int64_t column, std::int64_t,
            std::int64_t) {
    y_ = static_cast<T*>(p_.y) + ((image * p_.y_rows + row) * p_.y_columns + column) * p_.out;
  }
  void channels(std::int64_t c) {
    c_ = c;
    bias_ = p_.bias == nullptr ? Lanes{} : lanes(static_cast<const float*>(p_.bias) + c);
    slope_ = p_.slope == nullptr ? Lanes{} + 1 : lanes(static_cast<const float*>(p_.slope) + c);
  }
  void value(int row, int column, Lanes value, bool inside) const {
    value += bias_;
    if (inside)
      put(y_ + (row * p_.y_columns + column) * p_.out + c_, value > 0 ? value : value * slope_);
  }
  void end() const {}

 private:
  const Winograd& p_;
  T* y_ = nullptr;
  std::int64_t c_ = 0;
  Lanes bias_, slope_;
};

template <typename T>
std::int32_t activated(const Winograd& p) {
  const Activated<T> finish(p);
  return p.doubles ? in_panels<T, Doubling>(p, finish) : in_panels<T, Plain>(p, finish);
}

}  // namespace
#endif

RESTYLE_EXPORT std::int32_t restyle_winograd(const Winograd* p) {
#ifdef __AVX512F__
  if (p->dtype == kFloat32) return activated<float>(*p);
#endif
#ifdef __AVX512BF16__
  if (p->dtype == kBFloat16) return activated<bf16>(*p);
#endif
  return kUnknownDType;
}

}  // namespace restyle
