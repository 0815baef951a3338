// Fused operations of training-mode networks, for channels-last tensors seen as `rows x channels`.
//
// A node of a network is a sum of batch-normalised convolutions and of plain tensors. Done one by one, each
// normalisation, sum and rectification reads and writes the whole tensor; here a node takes two passes forward and two
// backward, whatever it sums. Arithmetic is fp32, storage fp32 or bf16. Work is cut into chunks that do not depend on the
// number of threads, and their sums are added in order, so results repeat bit for bit.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Index = int64_t;
constexpr Index kChunkBytes = 1 << 16;  // of one tensor: a chunk is read again while it is still in the cache
constexpr int kMaxTerms = 4;  // convolutions that one node may sum

template <typename T, int W>
struct Pack {
  typedef T type __attribute__((vector_size(W * sizeof(T))));
};
template <int W>
using Floats = typename Pack<float, W>::type;

struct bf16 {
  uint16_t bits;
};

template <int W>
inline Floats<W> load(const float* from) {
  Floats<W> x;
  std::memcpy(&x, from, sizeof x);
  return x;
}

template <int W>
inline Floats<W> load(const bf16* from) {
  typename Pack<uint16_t, W>::type half;
  std::memcpy(&half, from, sizeof half);
  auto wide = __builtin_convertvector(half, typename Pack<uint32_t, W>::type) << 16;
  Floats<W> x;
  std::memcpy(&x, &wide, sizeof x);
  return x;
}

template <int W>
inline void store(float* to, Floats<W> x) {
  std::memcpy(to, &x, sizeof x);
}

template <int W>
inline void store(bf16* to, Floats<W> x) {
  typename Pack<uint32_t, W>::type bits;
  std::memcpy(&bits, &x, sizeof bits);
  auto rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;  // to nearest, ties to even
  auto is_nan = (x != x);
  auto kept = is_nan ? (bits * 0 + 0x7fc0u) : rounded;
  auto half = __builtin_convertvector(kept, typename Pack<uint16_t, W>::type);
  std::memcpy(to, &half, sizeof half);
}

template <int W>
inline Floats<W> positive(Floats<W> x) {
  const Floats<W> zero = {};
  return x > zero ? x : (x != x ? x : zero);  // NaN stays NaN, so that a divergence is seen
}

struct Chunks {
  Index rows, size, count;
  Chunks(Index rows, Index channels, Index bytes)
      : rows(rows), size(std::max<Index>(1, kChunkBytes / (channels * bytes))), count((rows + size - 1) / size) {}
  Index begin(Index chunk) const { return chunk * size; }
  Index end(Index chunk) const { return std::min(rows, (chunk + 1) * size); }
};

// Calls body.template operator()<W>(first channel) for blocks of 16, then 8, then single channels.
template <typename Body>
inline void over_channels(Index channels, Body body) {
  Index c = 0;
  for (; c + 16 <= channels; c += 16) body.template run<16>(c);
  for (; c + 8 <= channels; c += 8) body.template run<8>(c);
  for (; c < channels; ++c) body.template run<1>(c);
}

// --- forward ---------------------------------------------------------------------------------------------------------

template <typename T>
struct Moments {  // sums of (x - first row) and of its square, over some rows
  const T* x;
  Index channels, begin, end;
  float* sums;  // 2 x channels
  template <int W>
  void run(Index c) const {
    const Floats<W> shift = load<W>(x + c);
    Floats<W> first[4] = {}, second[4] = {};
    Index row = begin;
    for (; row + 4 <= end; row += 4)
      for (int lane = 0; lane < 4; ++lane) {
        const Floats<W> d = load<W>(x + (row + lane) * channels + c) - shift;
        first[lane] += d;
        second[lane] += d * d;
      }
    for (; row < end; ++row) {
      const Floats<W> d = load<W>(x + row * channels + c) - shift;
      first[0] += d;
      second[0] += d * d;
    }
    store<W>(sums + c, (first[0] + first[1]) + (first[2] + first[3]));
    store<W>(sums + channels + c, (second[0] + second[1]) + (second[2] + second[3]));
  }
};

template <typename T, int K>
struct Sum {  // value = sum of scale * convolved + offset + sum of plain, and its positive part
  const T* const* convolved;
  const float* scale;   // K x channels
  const float* offset;  // channels
  int num_plain;
  const T* const* plain;
  Index channels, begin, end;
  T *value, *rectified;
  template <int W>
  void run(Index c) const {
    Floats<W> a[K + 1];
    for (int k = 0; k < K; ++k) a[k] = load<W>(scale + k * channels + c);
    const Floats<W> b = load<W>(offset + c);
    for (Index row = begin; row < end; ++row) {
      const Index at = row * channels + c;
      Floats<W> y = b;
      for (int k = 0; k < K; ++k) y += a[k] * load<W>(convolved[k] + at);
      for (int s = 0; s < num_plain; ++s) y += load<W>(plain[s] + at);
      if (value) store<W>(value + at, y);
      if (rectified) store<W>(rectified + at, positive<W>(y));
    }
  }
};

template <typename T, int K>
void forward(Index rows, Index channels, const T* const* convolved, int num_plain, const T* const* plain,
             const float* const* gamma, const float* const* beta, float* const* running_mean, float* const* running_var,
             const float* eps, const float* momentum, float* mean, float* inverse, T* value, T* rectified) {
  const Chunks chunks(rows, channels, sizeof(T));
  std::vector<float> partial(chunks.count * K * 2 * channels), scale(K * channels + 1), offset(channels, 0.0f);
#pragma omp parallel
  {
    if (K > 0) {
#pragma omp for schedule(static)
      for (Index chunk = 0; chunk < chunks.count; ++chunk)
        for (int k = 0; k < K; ++k)
          over_channels(channels, Moments<T>{convolved[k], channels, chunks.begin(chunk), chunks.end(chunk),
                                             partial.data() + (chunk * K + k) * 2 * channels});
#pragma omp single
      for (int k = 0; k < K; ++k)
        for (Index c = 0; c < channels; ++c) {
          double first = 0, second = 0;
          for (Index chunk = 0; chunk < chunks.count; ++chunk) {
            const float* sums = partial.data() + (chunk * K + k) * 2 * channels;
            first += sums[c];
            second += sums[channels + c];
          }
          first /= rows;
          float shift;
          if constexpr (sizeof(T) == 2) {
            const uint32_t bits = uint32_t(reinterpret_cast<const bf16*>(convolved[k])[c].bits) << 16;
            std::memcpy(&shift, &bits, 4);
          } else {
            shift = reinterpret_cast<const float*>(convolved[k])[c];
          }
          const double variance = std::max(0.0, second / rows - first * first);
          const double centre = shift + first;
          const float inv = static_cast<float>(1.0 / std::sqrt(variance + eps[k]));
          mean[k * channels + c] = static_cast<float>(centre);
          inverse[k * channels + c] = inv;
          const float a = gamma[k] ? gamma[k][c] * inv : inv;
          scale[k * channels + c] = a;
          offset[c] += (beta[k] ? beta[k][c] : 0.0f) - static_cast<float>(centre * a);
          if (running_mean[k]) {
            const double unbiased = rows > 1 ? variance * rows / (rows - 1) : variance;
            running_mean[k][c] += momentum[k] * (static_cast<float>(centre) - running_mean[k][c]);
            running_var[k][c] += momentum[k] * (static_cast<float>(unbiased) - running_var[k][c]);
          }
        }
    }
#pragma omp for schedule(static)
    for (Index chunk = 0; chunk < chunks.count; ++chunk)
      over_channels(channels, Sum<T, K>{convolved, scale.data(), offset.data(), num_plain, plain, channels,
                                        chunks.begin(chunk), chunks.end(chunk), value, rectified});
  }
}

// --- backward --------------------------------------------------------------------------------------------------------

template <typename T>
struct Incoming {  // gradient that arrives at a node: of its value, and of its positive part where that was positive
  const T *of_value, *of_rectified, *positive_where;
  template <int W>
  Floats<W> at(Index i) const {
    Floats<W> g = {};
    if (of_value) g = load<W>(of_value + i);
    if (of_rectified) {
      const Floats<W> zero = {}, y = load<W>(positive_where + i), r = load<W>(of_rectified + i);
      g += y > zero ? r : zero;
    }
    return g;
  }
};

template <typename T, int K>
struct GradientSums {  // sum of g, and of g * (convolved - mean); writes g where it is asked for
  Incoming<T> incoming;
  const T* const* convolved;
  const float* mean;
  Index channels, begin, end;
  T* gradient;
  float* sums;  // (K + 1) x channels
  template <int W>
  void run(Index c) const {
    Floats<W> m[K + 1], total[2] = {}, product[K + 1][2] = {};
    for (int k = 0; k < K; ++k) m[k] = load<W>(mean + k * channels + c);
    for (Index row = begin; row < end; ++row) {
      const Index at = row * channels + c;
      const int lane = row & 1;
      const Floats<W> g = incoming.template at<W>(at);
      if (gradient) store<W>(gradient + at, g);
      total[lane] += g;
      for (int k = 0; k < K; ++k) product[k][lane] += g * (load<W>(convolved[k] + at) - m[k]);
    }
    store<W>(sums + c, total[0] + total[1]);
    for (int k = 0; k < K; ++k) store<W>(sums + (k + 1) * channels + c, product[k][0] + product[k][1]);
  }
};

template <typename T, int K>
struct Distribute {  // gradient of convolved k = p g + q convolved + r
  Incoming<T> incoming;
  const T* const* convolved;
  const float* coefficients;  // K x 3 x channels
  Index channels, begin, end;
  T* const* gradients;
  template <int W>
  void run(Index c) const {
    for (Index row = begin; row < end; ++row) {
      const Index at = row * channels + c;
      const Floats<W> g = incoming.template at<W>(at);
      for (int k = 0; k < K; ++k) {
        const float* f = coefficients + k * 3 * channels + c;
        const Floats<W> y = load<W>(f) * g + (load<W>(f + channels) * load<W>(convolved[k] + at) + load<W>(f + 2 * channels));
        store<W>(gradients[k] + at, y);
      }
    }
  }
};

template <typename T, int K>
void backward(Index rows, Index channels, Incoming<T> incoming, const T* const* convolved, const float* const* gamma,
              const float* mean, const float* inverse, T* gradient, T* const* gradients, float* const* of_gamma,
              float* const* of_beta) {
  const Chunks chunks(rows, channels, sizeof(T));
  std::vector<float> partial(chunks.count * (K + 1) * channels), coefficients(K * 3 * channels + 1);
#pragma omp parallel
  {
#pragma omp for schedule(static)
    for (Index chunk = 0; chunk < chunks.count; ++chunk)
      over_channels(channels, GradientSums<T, K>{incoming, convolved, mean, channels, chunks.begin(chunk),
                                                 chunks.end(chunk), gradient,
                                                 partial.data() + chunk * (K + 1) * channels});
#pragma omp single
    for (Index c = 0; c < channels; ++c) {
      double total = 0;
      for (Index chunk = 0; chunk < chunks.count; ++chunk) total += partial[chunk * (K + 1) * channels + c];
      for (int k = 0; k < K; ++k) {
        double product = 0;
        for (Index chunk = 0; chunk < chunks.count; ++chunk)
          product += partial[(chunk * (K + 1) + k + 1) * channels + c];
        const double inv = inverse[k * channels + c], m = mean[k * channels + c];
        const double p = gamma[k] ? gamma[k][c] * inv : inv;
        const double q = -p * inv * inv * product / rows;
        float* f = coefficients.data() + k * 3 * channels + c;
        f[0] = static_cast<float>(p);
        f[channels] = static_cast<float>(q);
        f[2 * channels] = static_cast<float>(-p * total / rows - q * m);
        if (of_gamma[k]) of_gamma[k][c] = static_cast<float>(product * inv);
        if (of_beta[k]) of_beta[k][c] = static_cast<float>(total);
      }
    }
    if (K > 0) {
      const Incoming<T> again = gradient ? Incoming<T>{gradient, nullptr, nullptr} : incoming;
#pragma omp for schedule(static)
      for (Index chunk = 0; chunk < chunks.count; ++chunk)
        over_channels(channels, Distribute<T, K>{again, convolved, coefficients.data(), channels, chunks.begin(chunk),
                                                 chunks.end(chunk), gradients});
    }
  }
}

// --- 3x3 average -----------------------------------------------------------------------------------------------------

inline float share(Index at, Index size) { return 1.0f / static_cast<float>(1 + (at > 0) + (at + 1 < size)); }

// Average over the 3x3 neighbours inside the image, or (transposed) the gradient of that.
template <typename T>
struct Average {
  const T* x;
  T* y;
  Index height, width, channels;
  bool transposed;
  float* rows;  // 3 x width x channels: horizontal sums of three neighbouring rows
  template <int W>
  void across(Index h, Index c) const {
    const T* from = x + h * width * channels + c;
    float* to = rows + (h % 3) * width * channels + c;
    const float down = transposed ? share(h, height) : 1.0f;
    const auto at = [&](Index w) {
      return load<W>(from + w * channels) * (transposed ? down * share(w, width) : 1.0f);
    };
    Floats<W> left = {}, here = at(0);
    for (Index w = 0; w < width; ++w) {
      const Floats<W> right = w + 1 < width ? at(w + 1) : Floats<W>{};
      store<W>(to + w * channels, left + here + right);
      left = here;
      here = right;
    }
  }
  template <int W>
  void run(Index c) const {
    across<W>(0, c);
    for (Index h = 0; h < height; ++h) {
      if (h + 1 < height) across<W>(h + 1, c);
      const float* middle = rows + (h % 3) * width * channels + c;
      const float* above = h > 0 ? rows + ((h + 2) % 3) * width * channels + c : nullptr;
      const float* below = h + 1 < height ? rows + ((h + 1) % 3) * width * channels + c : nullptr;
      const float down = transposed ? 1.0f : share(h, height);
      T* to = y + h * width * channels + c;
      for (Index w = 0; w < width; ++w) {
        Floats<W> sum = load<W>(middle + w * channels);
        if (above) sum += load<W>(above + w * channels);
        if (below) sum += load<W>(below + w * channels);
        store<W>(to + w * channels, sum * (transposed ? 1.0f : down * share(w, width)));
      }
    }
  }
};

template <typename T>
void average(Index batch, Index height, Index width, Index channels, const T* x, T* y, bool transposed) {
#pragma omp parallel
  {
    std::vector<float> rows(3 * width * channels);
#pragma omp for schedule(static)
    for (Index b = 0; b < batch; ++b) {
      const Index at = b * height * width * channels;
      over_channels(channels, Average<T>{x + at, y + at, height, width, channels, transposed, rows.data()});
    }
  }
}

template <typename T>
const T* const* as(const void* const* pointers) {
  return reinterpret_cast<const T* const*>(pointers);
}

template <typename T, int K = 0>
void forward_any(int num_convolved, Index rows, Index channels, const void* const* convolved, int num_plain,
                 const void* const* plain, const float* const* gamma, const float* const* beta,
                 float* const* running_mean, float* const* running_var, const float* eps, const float* momentum,
                 float* mean, float* inverse, void* value, void* rectified) {
  if constexpr (K <= kMaxTerms) {
    if (num_convolved == K)
      forward<T, K>(rows, channels, as<T>(convolved), num_plain, as<T>(plain), gamma, beta, running_mean, running_var,
                    eps, momentum, mean, inverse, static_cast<T*>(value), static_cast<T*>(rectified));
    else
      forward_any<T, K + 1>(num_convolved, rows, channels, convolved, num_plain, plain, gamma, beta, running_mean,
                            running_var, eps, momentum, mean, inverse, value, rectified);
  }
}

template <typename T, int K = 0>
void backward_any(int num_convolved, Index rows, Index channels, const void* of_value, const void* of_rectified,
                  const void* positive_where, const void* const* convolved, const float* const* gamma,
                  const float* mean, const float* inverse, void* gradient, void* const* gradients,
                  float* const* of_gamma, float* const* of_beta) {
  if constexpr (K <= kMaxTerms) {
    if (num_convolved == K)
      backward<T, K>(rows, channels,
                     Incoming<T>{static_cast<const T*>(of_value), static_cast<const T*>(of_rectified),
                                 static_cast<const T*>(positive_where)},
                     as<T>(convolved), gamma, mean, inverse, static_cast<T*>(gradient),
                     reinterpret_cast<T* const*>(gradients), of_gamma, of_beta);
    else
      backward_any<T, K + 1>(num_convolved, rows, channels, of_value, of_rectified, positive_where, convolved, gamma,
                             mean, inverse, gradient, gradients, of_gamma, of_beta);
  }
}

}  // namespace

extern "C" {

int max_terms() { return kMaxTerms; }

void node_forward(int is_bf16, int num_convolved, Index rows, Index channels, const void* const* convolved,
                  int num_plain, const void* const* plain, const float* const* gamma, const float* const* beta,
                  float* const* running_mean, float* const* running_var, const float* eps, const float* momentum,
                  float* mean, float* inverse, void* value, void* rectified) {
  (is_bf16 ? forward_any<bf16> : forward_any<float>)(num_convolved, rows, channels, convolved, num_plain, plain, gamma,
                                                     beta, running_mean, running_var, eps, momentum, mean, inverse,
                                                     value, rectified);
}

void node_backward(int is_bf16, int num_convolved, Index rows, Index channels, const void* of_value,
                   const void* of_rectified, const void* positive_where, const void* const* convolved,
                   const float* const* gamma, const float* mean, const float* inverse, void* gradient,
                   void* const* gradients, float* const* of_gamma, float* const* of_beta) {
  (is_bf16 ? backward_any<bf16> : backward_any<float>)(num_convolved, rows, channels, of_value, of_rectified,
                                                       positive_where, convolved, gamma, mean, inverse, gradient,
                                                       gradients, of_gamma, of_beta);
}

void average_3x3(int is_bf16, Index batch, Index height, Index width, Index channels, const void* x, void* y,
                 int transposed) {
  if (is_bf16)
    average(batch, height, width, channels, static_cast<const bf16*>(x), static_cast<bf16*>(y), transposed);
  else
    average(batch, height, width, channels, static_cast<const float*>(x), static_cast<float*>(y), transposed);
}
}
