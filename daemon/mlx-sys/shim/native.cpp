// One operation of MLX's graph for whatever the daemon computes itself on the CPU: it allocates the results, and on the thread of
// its stream, in the order of the graph, calls a function with the places of inputs and outputs.
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "mlx/backend/cpu/encoder.h"
#include "mlx/c/error.h"
#include "mlx/c/private/array.h"
#include "mlx/c/private/enums.h"
#include "mlx/c/private/stream.h"
#include "mlx/primitives.h"

extern "C" {

enum { DEMOLISH_AXES_MAX = 5 };

// An array as the function sees it: strides are in elements; that of the last axis is 1, unless it has one element alone.
typedef struct {
  void* data;
  int64_t strides[DEMOLISH_AXES_MAX];
  int32_t shape[DEMOLISH_AXES_MAX];
  int32_t axes;
  int32_t dtype;
} demolish_view;

// `reuse` is the input whose buffer this result takes over, or whose values it begins with where the buffer has other holders; -1: none.
typedef struct {
  const int* shape;
  int axes;
  int dtype;
  int reuse;
} demolish_output;

typedef void (*demolish_run)(void* work, const demolish_view* inputs, size_t input_count, demolish_view* outputs, size_t output_count);
typedef void (*demolish_drop)(void* work);
}

namespace {

using namespace mlx::core;

// Owned by the primitive and by every task that waits to be run.
struct Work {
  void* work;
  demolish_run run;
  demolish_drop drop;

  Work(void* work, demolish_run run, demolish_drop drop) : work(work), run(run), drop(drop) {}
  Work(const Work&) = delete;
  ~Work() { drop(work); }
};

struct Copy {
  demolish_view from;
  char* to;
  size_t bytes;
};

// What a task needs when it is run; the arrays may be gone from the graph by then. MLX itself holds the buffers until after it.
struct Call {
  std::shared_ptr<Work> work;
  std::vector<demolish_view> views;
  size_t inputs = 0;
  std::vector<Copy> copies;

  void operator()();
};

demolish_view view(array& from) {
  demolish_view view{};
  view.data = from.data<char>();
  view.axes = static_cast<int32_t>(from.ndim());
  view.dtype = mlx_dtype_to_c(from.dtype());
  for (int axis = 0; axis < view.axes; axis++) {
    view.shape[axis] = from.shape()[axis];
    view.strides[axis] = from.strides()[axis];
  }
  return view;
}

void lay_in_rows(demolish_view& view) {
  int64_t stride = 1;
  for (int axis = view.axes - 1; axis >= 0; axis--) {
    view.strides[axis] = stride;
    stride *= view.shape[axis];
  }
}

// Rows without gaps, and none of the axes backwards.
bool has_dense_rows(const array& a) {
  for (size_t axis = 0; axis < a.ndim(); axis++) {
    int64_t stride = a.strides()[axis];
    if (a.shape()[axis] > 1 && (stride < 0 || (axis + 1 == a.ndim() && stride != 1))) {
      return false;
    }
  }
  return true;
}

// The elements in the order of their indices.
void copy_in_order(const demolish_view& from, char* to, size_t bytes) {
  std::array<int32_t, DEMOLISH_AXES_MAX> at{};
  const char* data = static_cast<const char*>(from.data);
  size_t count = 1;
  for (int axis = 0; axis < from.axes; axis++) {
    count *= from.shape[axis];
  }
  int last = from.axes - 1;
  size_t run = from.axes > 0 && from.strides[last] == 1 ? from.shape[last] : 1;
  for (size_t done = 0; done < count; done += run, to += run * bytes) {
    int64_t place = 0;
    for (int axis = 0; axis < from.axes; axis++) {
      place += at[axis] * from.strides[axis];
    }
    std::memcpy(to, data + place * static_cast<int64_t>(bytes), run * bytes);
    if (run > 1) {
      at[last] = from.shape[last] - 1;
    }
    for (int axis = last; axis >= 0 && ++at[axis] == from.shape[axis]; axis--) {
      at[axis] = 0;
    }
  }
}

void Call::operator()() {
  for (auto& copy : copies) {
    copy_in_order(copy.from, copy.to, copy.bytes);
  }
  work->run(work->work, views.data(), inputs, views.data() + inputs, views.size() - inputs);
}

// MLX's allocator of the CPU gives a buffer that is nowhere when the system gives it nothing.
allocator::Buffer allocate(size_t bytes) {
  auto buffer = allocator::malloc(bytes);
  if (buffer.ptr() == nullptr) {
    throw std::runtime_error("no memory for an operation of the daemon: the system gave none of " + std::to_string(bytes) + " bytes");
  }
  return buffer;
}

class Native : public Primitive {
 public:
  Native(Stream stream, std::shared_ptr<Work> work, std::vector<int> reuse, size_t inputs)
      : Primitive(stream), work_(std::move(work)), reuse_(std::move(reuse)), inputs_(inputs) {}

  void eval_cpu(const std::vector<array>& inputs, std::vector<array>& outputs) override {
    // The results of an evaluation that failed, for want of memory say, have lost them.
    if (inputs.size() != inputs_) {
      throw std::runtime_error("an operation of the daemon failed before, and its inputs are gone");
    }
    drop_inputs_of_siblings(inputs, outputs);
    auto& encoder = cpu::get_command_encoder(stream());
    auto call = std::make_shared<Call>();
    call->work = work_;
    call->inputs = inputs.size();
    call->views.reserve(inputs.size() + outputs.size());
    for (auto& input : inputs) {
      call->views.push_back(view(const_cast<array&>(input)));
      if (!has_dense_rows(input) && input.size() > 0) {
        array rows(input.shape(), input.dtype(), nullptr, {});
        rows.set_data(allocate(rows.nbytes()));
        call->copies.push_back({call->views.back(), rows.data<char>(), rows.itemsize()});
        call->views.back().data = rows.data<char>();
        lay_in_rows(call->views.back());
        encoder.add_temporary(std::move(rows));
      }
    }
    for (size_t index = 0; index < outputs.size(); index++) {
      auto& output = outputs[index];
      int from = reuse_[index];
      if (from >= 0 && can_take_over(inputs[from], output)) {
        output.copy_shared_buffer(inputs[from]);
      } else {
        output.set_data(allocate(output.nbytes()));
        if (from >= 0) {
          call->copies.push_back({call->views[from], output.data<char>(), output.itemsize()});
        }
      }
      call->views.push_back(view(output));
    }
    encoder.dispatch([call = std::move(call)] { (*call)(); });
  }

  void eval_gpu(const std::vector<array>&, std::vector<array>&) override {
    throw std::runtime_error("this operation is one of the CPU's");
  }

  // Gradients and vmap: those of Primitive, which throw.

  const char* name() const override { return "Demolish"; }

 private:
  // Every result of an operation holds the operation's inputs, so that none of them could be taken over.
  static void drop_inputs_of_siblings(const std::vector<array>& inputs, std::vector<array>& outputs) {
    if (outputs.size() == 1 || outputs[0].is_tracer()) {
      return;
    }
    for (auto& output : outputs) {
      if (&output.inputs() != &inputs) {
        output.inputs().clear();
      }
    }
  }

  static bool can_take_over(const array& input, const array& output) {
    return input.is_donatable() && input.flags().row_contiguous && input.shape() == output.shape() && input.dtype() == output.dtype();
  }

  std::shared_ptr<Work> work_;
  std::vector<int> reuse_;
  size_t inputs_;
};

void check(const std::vector<array>& inputs, const std::vector<Shape>& shapes, const std::vector<Dtype>& dtypes, const std::vector<int>& reuse) {
  for (auto& input : inputs) {
    if (input.ndim() > DEMOLISH_AXES_MAX) {
      throw std::invalid_argument("an input of an operation of the daemon has more than 5 axes");
    }
  }
  for (size_t index = 0; index < shapes.size(); index++) {
    if (shapes[index].size() > DEMOLISH_AXES_MAX) {
      throw std::invalid_argument("a result of an operation of the daemon has more than 5 axes");
    }
    int from = reuse[index];
    if (from >= static_cast<int>(inputs.size())) {
      throw std::invalid_argument("a result takes over an input that is not there");
    }
    if (from >= 0 && (inputs[from].shape() != shapes[index] || inputs[from].dtype() != dtypes[index])) {
      throw std::invalid_argument("a result takes over an input of another shape or type");
    }
  }
}

}  // namespace

extern "C" int demolish_native(mlx_array* results, const mlx_array* inputs, size_t input_count, const demolish_output* outputs,
                               size_t output_count, const mlx_stream stream, void* work, demolish_run run, demolish_drop drop) {
  // Takes the work over at once, so that it is dropped whatever goes wrong.
  try {
    auto owned = std::make_shared<Work>(work, run, drop);
    std::vector<array> arrays;
    arrays.reserve(input_count);
    for (size_t index = 0; index < input_count; index++) {
      arrays.push_back(mlx_array_get_(inputs[index]));
    }
    std::vector<Shape> shapes;
    std::vector<Dtype> dtypes;
    std::vector<int> reuse;
    for (size_t index = 0; index < output_count; index++) {
      auto& output = outputs[index];
      shapes.emplace_back(output.shape, output.shape + output.axes);
      dtypes.push_back(mlx_dtype_to_cpp(static_cast<mlx_dtype>(output.dtype)));
      reuse.push_back(output.reuse);
    }
    check(arrays, shapes, dtypes, reuse);
    auto primitive = std::make_shared<Native>(mlx_stream_get_(stream), std::move(owned), std::move(reuse), arrays.size());
    if (output_count == 1) {
      results[0] = mlx_array_new_(array(std::move(shapes[0]), dtypes[0], std::move(primitive), std::move(arrays)));
      return 0;
    }
    auto made = array::make_arrays(std::move(shapes), dtypes, primitive, arrays);
    for (size_t index = 0; index < output_count; index++) {
      results[index] = mlx_array_new_(std::move(made[index]));
    }
  } catch (std::exception& error) {
    mlx_error("%s", error.what());
    return 1;
  }
  return 0;
}
