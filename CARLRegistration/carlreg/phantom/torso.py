"""The anatomy: a torso from the shoulders to the pelvis, painted from the outside in.

All numbers are mm in the anatomy's own frame (LPS axes), and HU.
"""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, common_part, ellipsoid_distance, rotation, spline

LABELS = {
    "right lung": 1,
    "left lung": 2,
    "heart": 3,
    "liver": 4,
    "spleen": 5,
    "right kidney": 6,
    "left kidney": 7,
    "stomach": 8,
    "aorta": 9,
    "spine": 10,
    "ribs": 11,
    "pelvis": 12,
}
_SPONGY_HU, _DENSE_HU = 210.0, 720.0


def _body_half_widths(z):
    """Half width to the sides and to the front and back of the skin at a height."""
    side = (
        160
        + 18 * np.exp(-(((z - 190) / 70) ** 2))
        - 8 * np.exp(-(((z + 70) / 60) ** 2))
        + 14 / (1 + np.exp((z + 160) / 18))
    )
    deep = 106 + 4 * np.exp(-(((z - 90) / 80) ** 2)) - 12 / (1 + np.exp((205 - z) / 15))
    return side, deep


def _cavity_half_widths(z):
    """The same of the inner space of chest and belly, which closes at the top."""
    side, deep = _body_half_widths(np.minimum(z, 120.0))
    close = np.sqrt(np.clip(1 - np.clip((z - 70) / 160, 0, 1) ** 2, 0.02, 1.0))
    return (side - 33) * close, (deep - 29) * close


def _spine_y(z):
    """How far back the middle of the vertebral bodies lies."""
    return 47 - 9 * np.exp(-(((z + 120) / 70) ** 2)) + 9 * np.exp(-(((z - 110) / 90) ** 2))


def paint_torso(canvas: Canvas, random: np.random.Generator) -> np.ndarray:
    """Paint everything from the outside in; returns M x 3 anatomical landmarks."""
    _paint_walls(canvas)
    _paint_chest(canvas, random)
    landmarks = _paint_belly(canvas, random)
    landmarks += _paint_vessels(canvas)
    landmarks += _paint_bones(canvas)
    return np.array(landmarks, dtype=np.float64)


def _paint_walls(canvas: Canvas) -> None:
    """Skin, fat under it, muscle, and the fat that fills the inside."""
    x, y, z = canvas.coordinates(canvas.everywhere)
    radius = np.sqrt(x**2 + y**2) + 1e-3

    def superellipse(half_widths, exponent, shift=0.0):
        side, deep = half_widths
        k = ((np.abs(x) / side) ** exponent + (np.abs(y - shift) / deep) ** exponent) ** (1 / exponent)
        return radius * (1 - 1 / np.maximum(k, 0.05))

    skin = superellipse(_body_half_widths(z), 2.3) + 2.0 * canvas.bumps
    canvas.body[:] = skin < 0
    canvas.paint(canvas.everywhere, skin, 15.0)
    canvas.paint(canvas.everywhere, skin + 2.5, -105.0, grain=9.0)
    belly = 1 / (1 + np.exp((z - 10) / 25))
    fat = 9 + belly * (6 + 7 * np.clip(-y / 100, -0.4, 1))
    canvas.paint(canvas.everywhere, skin + fat, 55.0, rough=1.2, grain=10.0)
    inside = superellipse(_cavity_half_widths(z), 2.2, -9.0)
    canvas.cavity[:] = inside
    canvas.paint(canvas.everywhere, inside, -95.0, grain=12.0, rough=1.0)


def _paint_chest(canvas: Canvas, random: np.random.Generator) -> None:
    """Mediastinum, lungs with their vessels and airways, heart."""
    domes = (((-66.0, -8.0, -44.0), (96.0, 88.0, 84.0)), ((72.0, -8.0, -50.0), (84.0, 84.0, 76.0)))

    def inner(x, y, z):
        side, deep = _cavity_half_widths(z)
        k = np.sqrt((x / side) ** 2 + ((y + 9) / deep) ** 2)
        return np.sqrt(x**2 + (y + 9) ** 2) * (1 - 1 / np.maximum(k, 0.05))

    middle = canvas.box((-60, -90, 0), (60, 70, 250))
    x, y, z = canvas.coordinates(middle)
    mediastinum = np.maximum(np.abs(x) - 30 + 0.08 * (z - 100), np.maximum(inner(x, y, z) + 2, 20 - z))
    canvas.paint(middle, mediastinum, -40.0, grain=35.0, rough=2.0)
    for side, name in ((-1, "right lung"), (1, "left lung")):
        low, high = ((-150, -110, -75), (0, 100, 240)) if side < 0 else ((0, -110, -75), (150, 100, 240))
        box = canvas.box(low, high)
        x, y, z = canvas.coordinates(box)
        center, radii = domes[0 if side < 0 else 1]
        dome = ellipsoid_distance((x - center[0], y - center[1], z - center[2]), np.array(radii, np.float32))
        medial = 24 + 12 * np.exp(-(((z - 40) / 60) ** 2)) - 8 * np.clip((z - 150) / 60, 0, 1) - 0.05 * y
        distance = common_part(inner(x, y, z) + 4, medial - side * x, -dome + 3, -62 - z, z - 214)
        # Denser towards the back, where blood settles.
        canvas.paint(box, distance, -855.0 + 0.45 * y, LABELS[name], rough=1.5, grain=18.0)
        hilum = np.array([side * 32.0, 5.0, 88.0])
        for start in (hilum, np.add(hilum, (0, 8, -22)), np.add(hilum, (0, -8, 16))):
            for _ in range(3):
                toward = np.add(random.normal(size=3), (side * 1.3, 0.2, 0.0))
                toward = toward / np.linalg.norm(toward)
                _branch(canvas, random, start, toward, 5.0, 32.0, 5, LABELS[name], distance, box)
    heart = rotation((0, 1, 0), 25) @ rotation((0, 0, 1), 30)
    canvas.ellipsoid((20, -28, 46), (58, 46, 50), 52, LABELS["heart"], turned=heart, rough=2.0, grain=6)
    canvas.ellipsoid((34, -22, 40), (31, 20, 24), 165, turned=heart, rough=1.5)
    canvas.ellipsoid((3, -42, 46), (26, 22, 30), 150, turned=heart, rough=1.5)
    canvas.ellipsoid((8, 2, 66), (26, 15, 19), 165, rough=1.5)
    canvas.ellipsoid((-22, -22, 62), (18, 20, 24), 145, rough=1.5)
    # Trachea and main bronchi: a wall around air.
    for path, wide in (
        (spline([(0, 4, 240), (0, 12, 170), (1, 20, 112)], 9), 9.0),
        (spline([(1, 20, 114), (-22, 20, 98), (-46, 16, 82)], 6), 6.5),
        (spline([(1, 20, 114), (26, 20, 94), (48, 18, 80)], 6), 6.0),
    ):
        canvas.tube(path, wide + 2, 30)
        canvas.tube(path, wide, -985)
    canvas.tube(spline([(3, 34, 235), (4, 38, 120), (12, 28, 20)], 12), 6.5, 40)  # esophagus


def _branch(canvas, random, start, toward, radius, length, depth, label, outline, box) -> None:
    """A vessel that forks inside a lung, `depth` times, keeping away from the lung's surface."""
    for _ in range(4):
        turned = toward + random.normal(size=3) * 0.45
        turned /= np.linalg.norm(turned)
        end = start + turned * length * random.uniform(0.75, 1.15)
        k, j, i = (int(np.searchsorted(canvas.axes[a], end[a])) - box[2 - a].start for a in (2, 1, 0))
        in_box = all(0 <= n < size for n, size in zip((k, j, i), outline.shape, strict=True))
        if in_box and outline[k, j, i] < -3:
            break
    else:
        return
    canvas.tube([start, end], [radius, radius * 0.85], 70.0, label)
    for _ in range(2 if depth > 1 else 0):
        _branch(canvas, random, end, turned, radius * 0.74, length * 0.8, depth - 1, label, outline, box)


def _paint_belly(canvas: Canvas, random: np.random.Generator) -> list:
    """Bowel, stomach, liver, spleen, kidneys, and muscles along the spine."""
    for side in (-1, 1):
        canvas.tube([(side * 30, 84, 240), (side * 32, 82, 60), (side * 36, 80, -240)], [17, 21, 25], 58, grain=14)
    colon = (
        [(-100, 18, -205), (-104, 16, -160), (-98, 12, -120), (-78, -22, -100)],
        [(-78, -22, -100), (-50, -66, -102), (0, -74, -118), (50, -64, -92), (86, -10, -62)],
        [(86, -10, -62), (106, 22, -95), (106, 26, -150), (88, 14, -215), (40, 10, -250)],
    )
    for path in colon:
        curve = spline(path, 26)
        haustra = 19 + 2.5 * np.sin(np.arange(26) * 1.7)
        canvas.tube(curve, haustra, 45)
        canvas.tube(curve, haustra - 3, 5, grain=45)
        for point in curve[2::5]:
            canvas.ellipsoid(np.add(point, (0, -6, 0)), (11, 7, 11), -900, rough=2.0)
    here = np.array([30.0, -30.0, -110.0])
    loops = [here]
    for _ in range(110):  # small bowel: a walk that turns slowly inside its room
        step = random.normal(size=3)
        here = np.clip(here + 26 * step / np.linalg.norm(step), (-84, -66, -245), (84, 6, -96))
        loops.append(here)
    curve = spline(loops, 330)
    canvas.tube(curve, 12.5, 62)
    canvas.tube(curve, 9.0, 22, grain=14)
    canvas.ellipsoid((0, -32, -262), (46, 40, 34), 8, rough=2)  # bladder, at the lower edge

    stomach = rotation((0, 1, 0), -28)
    for grow, hu in ((0, 58), (-5, 22)):
        canvas.ellipsoid(
            (66, -26, -8), (38 + grow, 40 + grow, 60 + grow), hu, LABELS["stomach"], turned=stomach, rough=1.5
        )
        canvas.ellipsoid((22, -50, -62), (46 + grow, 24 + grow, 22 + grow), hu, LABELS["stomach"], rough=1.5)
    # Its air has risen to the front.
    canvas.ellipsoid(
        (66, -26, -8), (33, 35, 55), -960, turned=stomach, rough=1.5, keep=lambda x, y, z: y + 38.0 + 0 * x * z
    )
    canvas.tube(
        spline([(-34, 2, -72), (0, -8, -66), (40, 8, -50), (86, 26, -28)], 14),
        np.linspace(14, 8, 14),
        95,
        grain=9,
    )

    above = lambda x, y, z: (-(z + 118) + 0.62 * (x + 125) + 0.10 * (y + 10)) * 0.85  # noqa: E731
    canvas.ellipsoid((-64, -8, -46), (90, 82, 82), 108, LABELS["liver"], keep=above, rough=2.5, grain=5)
    canvas.ellipsoid(
        (2, -44, -2),
        (64, 34, 36),
        108,
        LABELS["liver"],
        keep=lambda x, y, z: (-(z + 34) + 0.4 * x) + 0 * y,
        rough=2.5,
        grain=5,
    )
    canvas.ellipsoid((-46, -42, -64), (15, 17, 30), 9, 0, turned=rotation((1, 0, 0), 30), rough=1)  # gallbladder
    portal = np.array([-24.0, -2.0, -46.0])
    forks = []
    for first, ends in (
        ((-52, -4, -36), [(-96, 18, -22), (-92, -40, -44), (-72, 34, -70)]),
        ((-18, -34, -12), [(30, -52, 2), (-6, -56, 12)]),
    ):
        canvas.tube([portal, first], [7.5, 6], 165)
        forks.append(first)
        for end in ends:
            path = spline([first, (np.array(first) + end) / 2 + random.normal(size=3) * 5, end], 5)
            canvas.tube(path, np.linspace(5, 2.5, 5), 165)
            canvas.tube([end, end + random.normal(size=3) * 12], [2.6, 1.8], 160)
    canvas.tube(spline([(10, 2, -110), (-6, 2, -80), portal], 5), 7.0, 165)
    for end in ((-110, 0, 2), (-60, -52, 6), (0, -48, 18)):  # hepatic veins
        canvas.tube(
            spline([(-26, 18, 26), np.add(end, (-26, 18, 36)) / 2, end], 5),
            np.linspace(6, 2.5, 5),
            155,
        )

    canvas.ellipsoid(
        (104, 30, -14),
        (26, 42, 54),
        122,
        LABELS["spleen"],
        turned=rotation((0, 1, 0), 18),
        rough=2,
        grain=6,
        keep=lambda x, y, z: 24 - np.sqrt((x - 70) ** 2 + (y - 8) ** 2 + ((z + 20) * 0.5) ** 2),
    )
    poles = []
    for side, top, name in ((-1, -84.0, "right kidney"), (1, -66.0, "left kidney")):
        center = np.array([side * 66.0, 36.0, top])
        tilt = rotation((0, 1, 0), side * 10)
        sinus = center - (side * 19, 6, 0)
        canvas.ellipsoid(center, (36, 33, 66), -98, 0, turned=tilt, rough=3, grain=8)
        canvas.ellipsoid(
            center,
            (28, 25, 54),
            190,
            LABELS[name],
            turned=tilt,
            rough=1.2,
            grain=8,
            keep=lambda x, y, z, s=sinus: 15 - np.sqrt((x - s[0]) ** 2 + (y - s[1]) ** 2 + ((z - s[2]) * 0.55) ** 2),
        )
        for lift in (-34, -17, 0, 17, 34):  # medullary pyramids
            canvas.ellipsoid(center + tilt @ (side * 3.0, -2.0, lift), (12, 11, 7), 125, rough=1.5)
        canvas.ellipsoid(np.add(sinus, (side * 2, 0, 0)), (7, 8, 15), 12, rough=1)
        poles += [tuple(center + tilt @ (0, 0, 52.0)), tuple(center - tilt @ (0, 0, 52.0)), tuple(center)]
        canvas.tube(
            spline([sinus, np.add(sinus, (-side * 10, -4, -60)), np.add(sinus, (-side * 6, -16, -150))], 8),
            3.2,
            40,
        )
    for side in (-1, 1):
        psoas = spline([(side * 30, 46, -40), (side * 38, 38, -120), (side * 60, 10, -250)], 8)
        canvas.tube(psoas, [8, 12, 15, 17, 18, 19, 20, 20], 60, 0, grain=8)
    return [portal, *forks, (-46, -42, -64), (104, 30, -14), (-64, -8, -46), *poles]


def _paint_vessels(canvas: Canvas) -> list:
    """Aorta with its branches, the caval veins, pulmonary trunk, vessels of the bowel's fat."""
    aorta = [(2, -18, 72), (-8, -26, 100), (-2, -18, 128), (12, 6, 142), (24, 28, 128), (25, 38, 90), (20, 36, 30)]
    aorta += [(10, 24, -20), (6, 12, -80), (4, 4, -130), (2, 6, -165)]
    canvas.tube(
        [(-28, 8, 60), (-26, 20, 24), (-24, 16, -40), (-20, 8, -110), (-16, 10, -172)], [12, 12, 12, 11, 10], 140
    )
    canvas.tube(spline([(-26, -16, 70), (-30, -18, 120), (-26, -20, 190)], 6), 9, 180)
    canvas.tube(
        spline([(26, -44, 78), (24, -30, 104), (2, 2, 98), (-34, 6, 94)], 8), [13, 13, 12, 11, 10, 9, 8, 8], 175
    )
    canvas.tube([(20, -14, 104), (46, 8, 96)], [10, 8], 175)
    for side in (-1, 1):
        canvas.tube(spline([(2, 6, -165), (side * 26, 12, -200), (side * 52, 6, -250)], 7), 7.5, 175, LABELS["aorta"])
        canvas.tube(spline([(-16, 10, -172), (side * 30, 22, -204), (side * 56, 14, -250)], 7), 7.5, 135)
        canvas.tube([(6, 12, -76), (side * 46, 30, -76)], [4, 3], 170)
        canvas.tube(spline([(4, -8, 142), (side * 16, -6, 180), (side * 44, -12, 215)], 6), 5.0, 175)
    canvas.tube(spline(aorta, 44), np.linspace(15, 9.5, 44), 178, LABELS["aorta"])
    mesenteric = spline([(6, 2, -70), (4, -26, -110), (-6, -36, -190)], 10)
    canvas.tube(mesenteric, np.linspace(5, 3, 10), 165)
    for n, point in enumerate(mesenteric[3:]):
        for side in (-1, 1):
            canvas.tube([point, np.add(point, (side * (34 + 3 * n), -14 + 5 * (n % 3), -16))], [2.6, 1.6], 140)
    return [(2, 6, -165), (12, 6, 142), (6, 12, -76), (-26, 20, 24)]


def _paint_bones(canvas: Canvas) -> list:
    """Spine, ribs, breastbone, shoulder blades, collarbones, pelvis: a dense shell around spongy bone."""
    landmarks = [*_paint_spine(canvas), *_paint_ribs(canvas)]
    _paint_pelvis(canvas)
    return landmarks


def _paint_spine(canvas: Canvas) -> list:
    spine, spongy, dense = LABELS["spine"], _SPONGY_HU, _DENSE_HU
    landmarks = []
    z = -196.0
    while z < 245.0:
        lumbar = np.clip((60 - z) / 160, 0, 1)
        y = float(_spine_y(z))
        wide, deep, high = 17 + 7 * lumbar, 14 + 4 * lumbar, 10 + 4 * lumbar
        pitch = 2 * high + 4 + 3 * lumbar
        canal = (0.0, y + deep + 9, z)
        # Disc, then the body over it, then the arch around the canal.
        canvas.ellipsoid((0, y, z + pitch / 2), (wide, deep, 6.0), 85, spine)
        for shrink, hu, grain in ((0.0, dense, 0.0), (2.4, spongy, 45.0)):
            box = canvas.box((-30, y - 25, z - 20), (30, y + 25, z + 20))
            px, py, pz = canvas.coordinates(box)
            round_ = (np.sqrt((px / wide) ** 2 + ((py - y) / deep) ** 2) - 1) * deep
            waist = round_ + 2.2 * (1 - ((pz - z) / high) ** 2)
            canvas.paint(box, np.maximum(waist, np.abs(pz - z) - high) + shrink, hu, spine, grain=grain)
        for hu, thick in ((dense * 0.75, 0.0), (spongy + 60, 2.0)):
            for side in (-1, 1):
                canvas.tube(
                    [(side * 11, y + deep - 2, z + 2), (side * 13, y + deep + 10, z - 1)], 5.5 - thick, hu, spine
                )
                canvas.tube([(side * 13, y + deep + 9, z), (side * 34, y + deep + 13, z + 4)], 4.8 - thick, hu, spine)
                canvas.tube([(side * 12, y + deep + 10, z - 2), (0, y + deep + 19, z - 6)], 4.8 - thick, hu, spine)
            canvas.tube([(0, y + deep + 19, z - 6), (0, y + deep + 32, z - 13)], [5.0 - thick, 4.0 - thick], hu, spine)
        canvas.ellipsoid(canal, (8.5, 7.5, 16), 28, 0)
        landmarks.append((0.0, y, z))
        z += pitch
    return landmarks


def _paint_ribs(canvas: Canvas) -> list:
    """Ribs with cartilage, the breastbone, collarbones and shoulders."""
    ribs, spongy, dense = LABELS["ribs"], _SPONGY_HU, _DENSE_HU
    landmarks = []
    for n in range(12):
        top = 206.0 - 21.5 * n
        reach = (0.70, 0.9, 0.96, 1, 1, 1, 1, 0.97, 0.9, 0.8, 0.55, 0.36)[n]
        drop = 40 + 5 * min(n, 8)
        angle = np.linspace(0.16, 0.82 * reach, 22) * np.pi
        height = top - drop * (angle / np.pi) ** 1.1
        side_mm, deep_mm = _cavity_half_widths(height)
        for side in (-1, 1):
            path = np.stack([side * (side_mm + 6) * np.sin(angle), -9 + (deep_mm + 7) * np.cos(angle), height], axis=1)
            path = np.concatenate([[(side * 24, float(_spine_y(top)) + 16, top + 4)], path])
            canvas.tube(path, 5.2, dense, ribs)
            canvas.tube(path, 2.9, spongy + 40, ribs)
            landmarks.append(tuple(path[11]))
            if n < 9:  # cartilage to the breastbone
                breast = (
                    side * 14,
                    -float(_cavity_half_widths(max(height[-1], 70.0))[1]) - 14,
                    max(min(height[-1] + 14, 178), 62.0),
                )
                canvas.tube(spline([path[-1], (path[-1] + breast) / 2 - (0, 4, 0), breast], 6), 4.6, 105)
    for hu, thick in ((dense * 0.8, 0.0), (spongy - 40, 2.2)):
        for height in np.linspace(68, 186, 24):
            front = -float(_cavity_half_widths(height)[1]) - 13
            canvas.ellipsoid((0, front, height), (17 - thick, 7.5 - thick, 6), hu, ribs)
        for side in (-1, 1):
            canvas.tube(
                spline([(side * 14, -66, 194), (side * 70, -60, 206), (side * 130, -20, 214)], 8),
                6.5 - thick,
                hu,
            )
            canvas.ellipsoid(
                (side * 104, 62, 140), (34 - thick, 5.5 - thick, 62), hu, turned=rotation((0, 0, 1), -side * 38)
            )
            canvas.tube([(side * 88, 78, 186), (side * 132, 50, 206)], 6.5 - thick, hu)
            canvas.ellipsoid((side * 148, 6, 214), (22 - thick, 22 - thick, 22 - thick), hu)
    return landmarks


def _paint_pelvis(canvas: Canvas) -> None:
    pelvis, spongy, dense = LABELS["pelvis"], _SPONGY_HU, _DENSE_HU
    box = canvas.box((-160, -100, -262), (160, 110, -130))
    x, y, z = canvas.coordinates(box)
    bowl = np.abs(ellipsoid_distance((x, y + 6, z + 196), np.array([122.0, 86.0, 150.0], np.float32)))
    crest = z + 152 + ((y - 8) / 7.5) ** 2 * 0.28 + 0 * x
    front = -(y + 52) + 0 * x
    inner = 42 - np.abs(x) + 0 * y
    for hu, thick, grain in ((dense * 0.8, 6.5, 0.0), (spongy, 4.0, 40.0)):
        shape = common_part(bowl - thick, crest + (6.5 - thick), front, inner)
        canvas.paint(box, shape, hu, pelvis, grain=grain)
    for hu, thick in ((dense * 0.7, 0.0), (spongy - 30, 3.0)):
        canvas.ellipsoid((0, 58, -232), (52 - thick, 20 - thick, 34 - thick), hu, pelvis, rough=1.5, grain=20)
