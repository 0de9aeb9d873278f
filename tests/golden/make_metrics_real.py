"""Records scikit-image's figures of real videos for `weft-infer evaluate`: tests/golden/metrics_real.txt.

    python3 tests/golden/make_metrics_real.py VIDEOS          (from the repository root; VIDEOS: the folder of real videos; five minutes)

Made with av 18.1.0, scikit-image 0.26.0, scipy 1.17.1, numpy 2.4.6.
PyAV decodes; FFmpeg's scale filter makes RGB of it, by the matrix that the file names or that its size implies, with accurate rounding.  A line: name, frames, mean SSIM, mean PSNR (of the pairs that differ) and flicker of consecutive frames, and the mean over frames of the variance of scipy.ndimage.laplace of luma (its edge left out).
"""
import os, sys
import av
import av.filter
import numpy as np
from av.video.reformatter import Colorspace
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

NAMES = ["cogvideox_1.mp4", "cogvideox_kitten.mp4", "hiker_tiny.mp4", "asl_student.mkv", "cogvideox_4.mp4", "hiker.mp4"]


def frames(path):
    with av.open(path) as c:
        stream, graph = c.streams.video[0], None
        for f in c.decode(stream):
            if graph is None:
                graph = av.filter.Graph()
                source = graph.add_buffer(template=stream)
                # what the file does not tag: BT.601 below 720 lines, limited range
                matrix = "bt709" if f.colorspace == Colorspace.ITU709 or f.height >= 720 else "bt601"
                scale = graph.add("scale", f"flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp:in_color_matrix={matrix}:in_range=tv:out_range=pc")
                form, sink = graph.add("format", "rgb24"), graph.add("buffersink")
                source.link_to(scale), scale.link_to(form), form.link_to(sink)
                graph.configure()
            graph.push(f)
            yield graph.pull().to_ndarray()


def main():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "metrics_real.txt"), "w") as out:
        for name in NAMES:
            before, n, ssim, psnr, diff, sharp = None, 0, [], [], [], []
            for f in frames(os.path.join(sys.argv[1], name)):
                luma = (2126 * f[..., 0].astype(np.int64) + 7152 * f[..., 1].astype(np.int64) + 722 * f[..., 2].astype(np.int64) + 5000) // 10000
                sharp.append(ndimage.laplace(luma.astype(float))[1:-1, 1:-1].var())
                if before is not None:
                    ssim.append(structural_similarity(before, f, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2))
                    d = np.abs(f.astype(int) - before)
                    diff.append(d.mean())
                    if d.any():
                        psnr.append(peak_signal_noise_ratio(before, f, data_range=255))
                before, n = f, n + 1
            print(name, n, "%.9f %.6f %.9f %.6f" % (np.mean(ssim), np.mean(psnr), 1 - np.mean(diff) / 255, np.mean(sharp)), file=out)


main()
