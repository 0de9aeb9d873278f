#include "common/ops/ref/ref.h"

void ops_ref_table(OpsTable *out)
{
    ops_ref_elementwise(out);
    ops_ref_move(out);
    ops_ref_linear(out);
    ops_ref_attention(out);
    ops_ref_norm(out);
    ops_ref_conv(out);
    ops_ref_train(out);
}
