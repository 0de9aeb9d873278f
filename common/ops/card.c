#include "common/ops/card.h"
#include <stddef.h>
#include <string.h>

double card_peak(const char *name)
{
    /* the first part of a name that fits; special models before the plain one */
    static const struct {
        const char *part;
        double teraflops;
    } card[] = {{"A100", 312},     {"A800", 312}, {"A40", 149.7}, {"A30", 165},   {"L40S", 362},     {"H100 PCIe", 756},
                {"H100 NVL", 835}, {"H100", 989}, {"H800", 989},  {"GH200", 989}, {"H200 NVL", 835}, {"H200", 989}};
    for (size_t i = 0; i < sizeof card / sizeof *card; i++)
        if (strstr(name, card[i].part))
            return card[i].teraflops * 1e12;
    return 0;
}
