#include "infer/sample.h"

int main(int argc, char **argv)
{
    static const Command commands[] = {
        {"sample", "make videos from prompts", "[options] --out DIR (--prompt TEXT | --prompts FILE)", sample_opts, sizeof(SampleOptions), 0, 0,
         sample_command},
        {0},
    };
    return program_main("weft-infer", "Samples videos from a CogVideoX pipeline folder and a fine-tuned checkpoint.", commands, argc, argv);
}
