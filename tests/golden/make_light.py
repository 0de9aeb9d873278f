"""Records what FFmpeg's `colorspace` filter makes of colours in other primaries and curves:
tests/unit/media/light.h.

    python tests/golden/make_light.py > tests/unit/media/light.h

Recorded with PyAV 18.1.0 (libavfilter 11.14.102) and numpy 2; the filter adapts white as Bradford does.
The pixels are 4:4:4 with 12 bits, BT.709's matrix, limited range; the numbers are RGB of 0 to 255.  SMPTE 428's primaries are left out: the filter has other
ones than H.273, and Weft refuses them.
"""
from fractions import Fraction

import av
import numpy as np

COLOURS = [(255, 255, 255), (0, 0, 0), (128, 128, 128), (234, 51, 34), (40, 200, 60), (30, 40, 220),
           (224, 172, 105), (126, 60, 60), (17, 180, 201), (200, 30, 130), (60, 61, 59), (12, 9, 15)]
CASES = [  # H.273's numbers of primaries and transfer; what the filter calls them; the curve that comes out
    (12, 13, "smpte432", "iec61966-2-1", "iec61966-2-1"), (12, 1, "smpte432", "bt709", "bt709"),
    (11, 13, "smpte431", "iec61966-2-1", "iec61966-2-1"), (11, 1, "smpte431", "bt709", "bt709"),
    (4, 1, "bt470m", "bt709", "bt709"), (22, 1, "jedec-p22", "bt709", "bt709"), (8, 1, "film", "bt709", "bt709"),
    (1, 4, "bt709", "gamma22", "iec61966-2-1"),
    (1, 5, "bt709", "gamma28", "iec61966-2-1"), (1, 7, "bt709", "smpte240m", "bt709"),
    (4, 4, "bt470m", "gamma22", "iec61966-2-1"), (12, 7, "smpte432", "smpte240m", "bt709")]
KR, KB = 0.2126, 0.0722


def to_yuv(rgb):
    r, g, b = (np.asarray(rgb, float) / 255).T
    y = KR * r + (1 - KR - KB) * g + KB * b
    cb, cr = (b - y) / (2 * (1 - KB)), (r - y) / (2 * (1 - KR))
    return [np.rint(16 * (16 + 219 * y)), np.rint(16 * (128 + 224 * cb)), np.rint(16 * (128 + 224 * cr))]


def to_rgb(y, cb, cr):
    y, cb, cr = (y / 16 - 16) / 219, (cb / 16 - 128) / 224, (cr / 16 - 128) / 224
    r, b = y + 2 * (1 - KR) * cr, y + 2 * (1 - KB) * cb
    return np.clip(np.stack([r, (y - KR * r - KB * b) / (1 - KR - KB), b], -1), 0, 1) * 255


def convert(primaries, curve, out_curve):
    width, height = 16 * len(COLOURS), 16
    graph = av.filter.Graph()
    source = graph.add_buffer(width=width, height=height, format="yuv444p12le", time_base=Fraction(1, 25))
    change = graph.add("colorspace", f"ispace=bt709:iprimaries={primaries}:itrc={curve}:irange=tv:"
                                     f"space=bt709:primaries=bt709:trc={out_curve}:range=tv:format=yuv444p12")
    sink = graph.add("buffersink")
    source.link_to(change)
    change.link_to(sink)
    graph.configure()
    frame = av.VideoFrame(width, height, "yuv444p12le")
    for plane, values in zip(frame.planes, to_yuv(COLOURS)):
        row = np.repeat(values, 16).astype("<u2").tobytes()
        plane.update((row + bytes(plane.line_size - len(row))) * height)
    frame.pts = 0
    graph.push(frame)
    out = graph.pull()
    samples = [np.frombuffer(p, "<u2").reshape(height, -1)[8, 8:width:16].astype(float) for p in out.planes]
    return to_rgb(*samples)


print("/* Made by tests/golden/make_light.py: FFmpeg's `colorspace` filter.  Not to be edited. */")
print("#ifndef WEFT_TESTS_LIGHT_H\n#define WEFT_TESTS_LIGHT_H")
print(f"enum {{ LIGHT_COLOURS = {len(COLOURS)}, LIGHT_CASES = {len(CASES)} }};")
print("static const double light_colours[LIGHT_COLOURS][3] = {")
for c in COLOURS:
    print("    {%d, %d, %d}," % c)
print("};\nstatic const struct {\n    int primaries, transfer;\n    double rgb[LIGHT_COLOURS][3];\n} light_cases[LIGHT_CASES] = {")
for primaries, transfer, *names in CASES:
    print(f"    {{{primaries}, {transfer}, {{")
    for r, g, b in convert(*names):
        print(f"        {{{r:.2f}, {g:.2f}, {b:.2f}}},")
    print("    }},")
print("};\n#endif")
