"""The work of weft-prep ingest in PyAV or decord: prep_pyav.py KIND FOLDER SCALED_WIDTH SCALED_HEIGHT reads FOLDER/src/*.mp4.

simple   what one writes first: one process, the decoder's default threads, every frame as RGB only when chosen, Pillow's resize
tuned    two processes, one thread each, the scaler's bicubic, decoding stops after the window
decord   one process: decord's batch of the chosen frames, Pillow's resize
All write 49 frames of 480x720 at 8 fps in FFV1 (level 3, 4 slices, CRCs), and neither hashes, measures nor records anything."""
import multiprocessing
import pathlib
import sys

import av
from PIL import Image

FRAMES, FPS, W, H = 49, 8, 480, 720


class Sink:
    def __init__(self, out, threads):
        self.file = av.open(out, "w")
        self.stream = self.file.add_stream("ffv1", rate=FPS)
        self.stream.width, self.stream.height, self.stream.pix_fmt = W, H, "bgr0"
        if threads:
            self.stream.codec_context.thread_count = threads
        self.stream.codec_context.options = {"level": "3", "slices": "4", "slicecrc": "1"}
        self.stream.codec_context.gop_size = 1

    def put(self, rgb):
        self.file.mux(self.stream.encode(av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="bgr0")))

    def close(self):
        self.file.mux(self.stream.encode())
        self.file.close()


def pillow(rgb, width, height):
    import numpy
    x, y = (width - W) // 2, (height - H) // 2
    return numpy.asarray(Image.fromarray(rgb).resize((width, height), Image.BICUBIC).crop((x, y, x + W, y + H)))


def scaled(frame, width, height):
    x, y = (width - W) // 2, (height - H) // 2
    return frame.reformat(width, height, "rgb24", interpolation="BICUBIC").to_ndarray()[y:y + H, x:x + W].copy()


def chosen(frames, stop):
    """The frame nearest to each k/8 s, ties to the earlier."""
    k, before = 0, None
    for frame in frames:
        while k < FRAMES and before is not None and abs(frame.time - k / FPS) >= abs(before.time - k / FPS):
            yield before
            k += 1
        before = frame
        if stop and k == FRAMES:
            return


def with_av(args):
    path, out, width, height, tuned = args
    sink = Sink(out, 1 if tuned else 0)
    with av.open(path) as source:
        if tuned:
            source.streams.video[0].thread_count = 1
        for frame in chosen(source.decode(video=0), tuned):
            sink.put(scaled(frame, width, height) if tuned else pillow(frame.to_ndarray(format="rgb24"), width, height))
    sink.close()


def with_decord(args):
    import decord
    path, out, width, height, _ = args
    reader = decord.VideoReader(path)
    times = [t[0] for t in reader.get_frame_timestamp(range(len(reader)))]
    picks = [min(range(len(times)), key=lambda i: abs(times[i] - times[0] - k / FPS)) for k in range(FRAMES)]
    sink = Sink(out, 0)
    for rgb in reader.get_batch(picks).asnumpy():
        sink.put(pillow(rgb, width, height))
    sink.close()


if __name__ == "__main__":
    kind, folder, width, height = sys.argv[1], pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    jobs = [(str(p), str(folder / (p.stem + "-py.mkv")), width, height, kind == "tuned") for p in sorted((folder / "src").glob("*.mp4"))]
    if kind == "tuned":
        with multiprocessing.Pool(2) as pool:
            pool.map(with_av, jobs)
    else:
        for job in jobs:
            (with_decord if kind == "decord" else with_av)(job)
