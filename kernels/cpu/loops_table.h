// The table of one build of the loops.
#pragma once

#include "kernels/cpu/loops_activation.h"
#include "kernels/cpu/loops_attention.h"
#include "kernels/cpu/loops_elementwise.h"
#include "kernels/cpu/loops_matrix.h"
#include "kernels/cpu/loops_payload.h"
#include "kernels/cpu/loops_product.h"
#include "kernels/cpu/loops_rows.h"

namespace switchyard::cpu {

const Loops& SWITCHYARD_LOOPS() {
  namespace isa = switchyard::SWITCHYARD_ISA;
  static constexpr Loops kTable{
      .convert = isa::convert,
      .add_rows = isa::add_rows,
      .jitter_rows = isa::jitter_rows,
      .sum = isa::sum,
      .sum_columns = isa::sum_columns,
      .epilogue = isa::epilogue,
      .activate = isa::activate,
      .activate_backward = isa::activate_backward,
      .norm_forward = isa::norm_forward,
      .norm_backward = isa::norm_backward,
      .softmax_rows = isa::softmax_rows,
      .softmax_gradient = isa::softmax_gradient,
      .softmax_gradient_rows = isa::softmax_gradient_rows,
      .multiply_tile = isa::multiply_tile,
      .copy_rows = isa::copy_rows,
      .dot_rows = isa::dot_rows,
      .scale_rows = isa::scale_rows,
      .cross_entropy_row = isa::cross_entropy_row,
      .softmax = isa::softmax,
      .entropy = isa::entropy,
      .gather_rows = isa::gather_rows,
      .dot = isa::dot,
      .quantise = isa::quantise,
      .dequantise = isa::dequantise,
      .adamw = isa::adamw,
      .sgd = isa::sgd,
      .pack = isa::pack,
      .transpose = isa::transpose,
  };
  return kTable;
}

}  // namespace switchyard::cpu
