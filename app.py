"""The Space: the page of `bus_hf.space` on the embedded checkpoints, or on those that BUS_HF_ENSEMBLE names."""

from bus_hf.space.page import build, settings

demo = build()

if __name__ == "__main__":
    demo.launch(**settings())
