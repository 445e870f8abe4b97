# mypy: allow-untyped-defs, allow-untyped-calls
"""What Numba compiles: `views.apply` without blur, image by image.

A small image stays in the first-level cache from its first byte to its last value,
which no chain of operations over the batch achieves: five times as fast on a CPU.
The formulas are those of `operations`, where they are explained.

One file on purpose: Numba keys its cache to the file of the function called from
outside, so a callee in another file could change without being recompiled.
"""

import numpy as np

from offdiag._compiled import compiled_exactly

# float32 throughout: one float64 constant would halve the pixels taken at a time.
ZERO, ONE, TWO, THREE, FOUR, SIX = (np.float32(number) for number in (0, 1, 2, 3, 4, 6))
RED, GREEN, BLUE = np.float32(0.2989), np.float32(0.587), np.float32(0.114)
TINY = np.finfo(np.float32).tiny
LANES = 16  # sums that run side by side: one alone would wait for each addition


@compiled_exactly
def write_views(images, draws, threshold, scale, shift, out):
    """Write a view of each image, by its draws, into `out`.

    `scale` and `shift`, one per channel, normalise what the steps have made.
    """
    boxes, mirrored, brightness, contrast, saturation, turns, grayed, solarised = draws
    _, channels, height, width = images.shape
    rows, columns = out.shape[2:]
    values = np.empty(width, np.float32)
    short = np.empty((height, channels, columns), np.float32)
    view = np.empty((channels, rows * columns), np.float32)
    for i in range(len(images)):
        crop_resize_flip(images[i], boxes[i], mirrored[i], rows, columns, values, short, view)
        if channels == 3:
            if brightness[i] != ONE or contrast[i] != ONE or saturation[i] != ONE:
                adjust_colour(view, brightness[i], contrast[i], saturation[i])
            if turns[i] != ZERO:
                adjust_hue(view, turns[i])
            if grayed[i]:
                to_gray(view)
        elif brightness[i] != ONE or contrast[i] != ONE:
            adjust_gray(view, brightness[i], contrast[i])
        for c in range(channels):
            if solarised[i]:
                for p in range(rows * columns):
                    view[c, p] = ONE - view[c, p] if view[c, p] >= threshold else view[c, p]
            for row in range(rows):
                for column in range(columns):
                    out[i, c, row, column] = scale[c] * view[c, row * columns + column] + shift[c]


@compiled_exactly
def crop_resize_flip(image, box, mirror, rows, columns, values, short, view):
    """The piece of `image` in the box, resized, in [0, 1], into `view`; all else is scratch."""
    top, left, tall, wide = box[0], box[1], box[2], box[3]
    channels, _, width = image.shape
    pixels, weights = resize_weights(left, wide, mirror, columns)
    for y in range(tall):
        for c in range(channels):
            for x in range(width):
                values[x] = np.float32(image[c, top + y, x])
            short[y, c] = ZERO
            for tap in range(len(pixels)):
                for x in range(columns):
                    short[y, c, x] += weights[tap, x] * values[pixels[tap, x]]
    pixels, weights = resize_weights(top, tall, False, rows)
    for row in range(rows):
        for c in range(channels):
            place = view[c, row * columns : (row + 1) * columns]
            place[:] = ZERO
            for tap in range(len(pixels)):
                weight = weights[tap, row] / np.float32(255)
                line = short[pixels[tap, row] - top, c]
                for x in range(columns):
                    place[x] += weight * line[x]


@compiled_exactly
def resize_weights(start, length, backwards, new):
    """For each of `new` places the pixels of the piece that it sees, and the weight of each.

    Both are (taps, new): places that see fewer pixels see the first one with weight 0.
    """
    scale = length / new
    support = max(scale, 1.0)
    taps = int(np.ceil(2 * support))  # the most whole numbers in an open interval so wide
    pixels = np.empty((taps, new), np.uint64)  # unsigned: no test for places before the first
    weights = np.empty((taps, new), np.float32)
    for place in range(new):
        centre = start + (place + 0.5) * scale
        lowest = int(np.floor(centre - support - 0.5)) + 1
        to = new - 1 - place if backwards else place
        total = 0.0
        for tap in range(taps):
            pixel = lowest + tap
            weight = max(0.0, 1.0 - abs(pixel + 0.5 - centre) / support)
            if pixel < start or pixel >= start + length:
                pixel, weight = start, 0.0
            pixels[tap, to] = np.uint64(pixel)
            weights[tap, to] = weight
            total += weight
        for tap in range(taps):
            weights[tap, to] /= total
    return pixels, weights


@compiled_exactly
def adjust_colour(view, brightness, contrast, saturation):
    red, green, blue = view[0], view[1], view[2]
    lanes = np.zeros(LANES, np.float32)
    for start in range(0, red.size - LANES + 1, LANES):
        for p in range(LANES):
            lanes[p] += luma(red[start + p], green[start + p], blue[start + p])
    for p in range(red.size - red.size % LANES, red.size):
        lanes[0] += luma(red[p], green[p], blue[p])
    gain = brightness * contrast
    offset = brightness * (ONE - contrast) * added(lanes) / np.float32(red.size)
    for p in range(red.size):
        gray = gain * (ONE - saturation) * luma(red[p], green[p], blue[p]) + offset
        red[p] = clamp(gain * saturation * red[p] + gray)
        green[p] = clamp(gain * saturation * green[p] + gray)
        blue[p] = clamp(gain * saturation * blue[p] + gray)


@compiled_exactly
def adjust_gray(view, brightness, contrast):
    gray = view[0]
    offset = brightness * (ONE - contrast) * added(gray) / np.float32(gray.size)
    for p in range(gray.size):
        gray[p] = clamp(brightness * contrast * gray[p] + offset)


@compiled_exactly
def adjust_hue(view, turns):
    red, green, blue = view[0], view[1], view[2]
    for p in range(red.size):
        r, g, b = red[p], green[p], blue[p]
        low, top = min(min(r, g), b), max(max(r, g), b)
        chroma = top - low
        # All three and then a choice: a loop without branches takes many pixels at a time.
        near_green, near_blue = (b - r) + TWO * chroma, (r - g) + FOUR * chroma
        hue = near_green if top == g else near_blue
        hue = g - b if top == r else hue
        hue = hue / max(chroma, TINY) + SIX * turns + SIX
        hue -= SIX * np.floor(hue / SIX)
        red[p] = low + chroma * clamp(abs(hue - THREE) - ONE)
        green[p] = low + chroma * clamp(TWO - abs(hue - TWO))
        blue[p] = low + chroma * clamp(TWO - abs(hue - FOUR))


@compiled_exactly
def to_gray(view):
    red, green, blue = view[0], view[1], view[2]
    for p in range(red.size):
        gray = luma(red[p], green[p], blue[p])
        red[p], green[p], blue[p] = gray, gray, gray


@compiled_exactly
def luma(red, green, blue):
    return RED * red + GREEN * green + BLUE * blue


@compiled_exactly
def clamp(value):
    return min(max(value, ZERO), ONE)


@compiled_exactly
def added(values):
    total = ZERO
    for p in range(values.size):
        total += values[p]
    return total
