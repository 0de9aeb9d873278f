#include "common/ops/ops_table.h"

void ops_cpu_table(OpsTable *out)
{
    ops_ref_table(out);
}
