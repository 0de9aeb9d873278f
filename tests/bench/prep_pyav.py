"""The same work as weft-prep ingest in PyAV: prep_pyav.py FOLDER SCALED_WIDTH SCALED_HEIGHT PROCESSES reads FOLDER/src/*.mp4."""
import multiprocessing
import pathlib
import sys

import av


def one(args):
    path, out, width, height = args
    with av.open(path) as source, av.open(out, "w") as sink:
        source.streams.video[0].thread_count = 1
        stream = sink.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 480, 720, "bgr0"
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"level": "3", "slices": "4", "slicecrc": "1"}
        stream.codec_context.gop_size = 1
        k, before, x, y = 0, None, (width - 480) // 2, (height - 720) // 2
        for frame in source.decode(video=0):
            while k < 49 and before is not None and abs(frame.time - k / 8) >= abs(before.time - k / 8):
                rgb = before.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()
                picture = av.VideoFrame.from_ndarray(rgb[y:y + 720, x:x + 480].copy(), "rgb24")
                sink.mux(stream.encode(picture.reformat(format="bgr0")))
                k += 1
            before = frame
        sink.mux(stream.encode())


if __name__ == "__main__":
    folder, width, height, processes = pathlib.Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    jobs = [(str(p), str(folder / (p.stem + "-py.mkv")), width, height) for p in sorted((folder / "src").glob("*.mp4"))]
    with multiprocessing.Pool(processes) as pool:
        pool.map(one, jobs)
