/* Geometry: from a source of one size to an output of another. */
#include <math.h>
#include <string.h>
#include "common/media/media_internal.h"

int64_t round_ratio(int64_t a, int64_t b, int64_t c)
{
    return (int64_t)(((__int128)2 * a * b + c) / ((__int128)2 * c));
}

FitPlan fit_plan_size(int64_t w, int64_t h, int64_t width, int64_t height, FitMode mode, double bias_x, double bias_y)
{
    FitPlan p = {.mode = mode,
                 .width = width,
                 .height = height,
                 .scaled_width = width,
                 .scaled_height = height,
                 .bias_x = bias_x,
                 .bias_y = bias_y,
                 .background = {255, 255, 255}};
    if (mode == FIT_STRETCH)
        return p;
    int wider = (__int128)w * height >= (__int128)h * width;
    if (wider == (mode == FIT_COVER))
        p.scaled_width = round_ratio(height, w, h);
    else
        p.scaled_height = round_ratio(width, h, w);
    if (mode == FIT_COVER) {
        if (p.scaled_width < width)
            p.scaled_width = width;
        if (p.scaled_height < height)
            p.scaled_height = height;
        p.crop_x = (int64_t)floor((double)(p.scaled_width - width) * bias_x);
        p.crop_y = (int64_t)floor((double)(p.scaled_height - height) * bias_y);
        p.lost = 1 - (double)(width * height) / ((double)p.scaled_width * (double)p.scaled_height);
    } else {
        if (p.scaled_width < 1)
            p.scaled_width = 1;
        if (p.scaled_height < 1)
            p.scaled_height = 1;
        if (p.scaled_width > width)
            p.scaled_width = width;
        if (p.scaled_height > height)
            p.scaled_height = height;
        p.crop_x = -(int64_t)floor((double)(width - p.scaled_width) * bias_x);
        p.crop_y = -(int64_t)floor((double)(height - p.scaled_height) * bias_y);
    }
    return p;
}

FitPlan fit_plan_part(const VideoInfo *info, const int64_t part[4], int64_t width, int64_t height, FitMode mode,
                      double bias_x, double bias_y)
{
    FitPlan p = part[2] ? fit_plan_size(part[2], part[3], width, height, mode, bias_x, bias_y)
                        : fit_plan(info, width, height, mode, bias_x, bias_y);
    memcpy(p.part, part, sizeof p.part);
    return p;
}

FitPlan fit_plan(const VideoInfo *info, int64_t width, int64_t height, FitMode mode, double bias_x, double bias_y)
{
    return fit_plan_size(info->display_width, info->display_height, width, height, mode, bias_x, bias_y);
}
