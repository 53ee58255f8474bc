"""What lines the two sides of the street: house fronts, gardens, trees, lamps, signs and railings."""

from featherseg.data.streets.chance import Dice
from featherseg.data.streets.mood import RGB
from featherseg.data.streets.things import Barrier, Building, Crossing, Post, Side, Thing, Tree

FACADES: tuple[RGB, ...] = (
    (142, 84, 66),
    (128, 78, 62),
    (160, 104, 82),
    (176, 148, 108),
    (190, 166, 124),
    (150, 128, 98),
    (216, 208, 190),
    (226, 222, 212),
    (204, 190, 160),
    (168, 164, 156),
    (148, 144, 138),
    (120, 114, 108),
    (96, 88, 82),
    (186, 176, 150),
    (156, 160, 168),
    (198, 172, 150),
    (180, 196, 200),
    (214, 196, 140),
)

BARRIERS = {
    "town": ("railing", "wall", "boards", "mesh"),
    "suburb": ("wall", "hedge", "boards", "railing", "wall", "hedge"),
    "open": ("mesh", "hedge", "railing", "guard", "hedge"),
}


def _season(dice: Dice) -> tuple[str, ...]:
    return dice.pick(
        (
            ("leafy",),
            ("leafy", "leafy", "conifer"),
            ("bare", "bare", "bare", "conifer"),
            ("bare", "bare", "leafy"),
            ("autumn", "leafy", "bare"),
        )
    )


def _building(
    dice: Dice, place: str, u0: float, s0: float, u1: float, s1: float, bias: int, detached: bool
) -> Building:
    use = dice.pick(
        {
            "town": ("shop", "shop", "shop", "house", "office"),
            "suburb": ("house", "house", "house", "house", "shop"),
            "open": ("hall", "office", "house", "house"),
        }[place]
    )
    storeys = {"shop": (2, 4), "house": (2, 3), "office": (3, 6), "hall": (1, 2)}[use]
    colour = dice.pick(FACADES)
    dim = dice.uniform(0.8, 1.08)
    pitched = use in ("house", "shop") and dice.chance(0.75)
    return Building(
        u0=u0,
        s0=s0,
        u1=u1,
        s1=s1,
        depth=dice.uniform(7.0, 13.0),
        storeys=max(1, dice.integer(*storeys) + (bias if use != "hall" else 0)),
        storey=dice.uniform(2.7, 3.6) if use != "hall" else dice.uniform(3.5, 5.5),
        use=use,
        roof=dice.uniform(1.6, 4.2) if pitched else 0.0,
        colour=(colour[0] * dim, colour[1] * dim, colour[2] * dim),
        detached=detached,
        seed=dice.seed(),
    )


def _fronts(
    dice: Dice, side: Side, sign: int, place: str, gap: Crossing | None, end: float, trees: tuple[str, ...]
) -> list[Thing]:
    things: list[Thing] = []
    built = {"town": 0.94, "suburb": 0.8, "open": 0.42}[place]
    terrace = dice.chance({"town": 0.7, "suburb": 0.35, "open": 0.1}[place])
    bias = dice.pick((0, 0, 0, 1)) if place == "town" else 0
    barrier = dice.pick(BARRIERS[place]) if dice.chance({"town": 0.3, "suburb": 0.85, "open": 0.75}[place]) else None
    edge = side.kerb + side.verge + side.pavement
    s = dice.uniform(-14.0, -6.0)
    joined = s
    while s < end:
        length = dice.uniform(5.0, 11.0) if place != "open" else dice.uniform(9.0, 30.0)
        if gap and s < gap.end + 1.5 and s + length > gap.start - 1.5:
            if s > gap.start - 6.0 or gap.start - 1.5 - s < 4.0:
                s = gap.end + 1.5
                continue
            length = gap.start - 1.5 - s
        setback = side.front + (dice.uniform(0.0, 0.8) if not terrace else 0.0)
        if dice.chance(built):
            things.append(_building(dice, place, sign * setback, s, sign * setback, s + length, bias, s > joined))
            joined = s + length + 0.1
        else:
            for _ in range(dice.integer(0, 3)):
                u = sign * (side.front + dice.uniform(0.5, 12.0))
                kind = dice.pick(trees)
                things.append(_tree(dice, u, s + dice.uniform(0, length), kind, behind=True))
            low = "wall" if place == "town" else dice.pick(BARRIERS[place])
            if dice.chance(0.7):
                things.append(
                    Barrier(
                        sign * side.front, s, sign * side.front, s + length, dice.uniform(1.2, 2.4), low, dice.seed()
                    )
                )
        if barrier and side.front - edge > 0.8 and dice.chance(0.85):
            height = dice.uniform(0.7, 1.9)
            u = sign * (edge + 0.15)
            if barrier == "hedge":
                height = dice.uniform(0.8, 2.2)
            things.append(
                Barrier(u, s, u, s + length - (0.0 if dice.chance(0.5) else 1.4), height, barrier, dice.seed())
            )
        s += length + (0.0 if terrace and dice.chance(0.92) else dice.uniform(0.4, 5.0))
    return things


def _tree(dice: Dice, u: float, s: float, kind: str, behind: bool) -> Tree:
    radius = dice.uniform(1.4, 3.6) * (1.2 if behind else 1.0)
    return Tree(u, s, dice.uniform(1.6, 3.4), radius, kind, behind, dice.seed())


def _greens(dice: Dice, side: Side, sign: int, place: str, end: float, trees: tuple[str, ...]) -> list[Thing]:
    things: list[Thing] = []
    avenue = dice.chance({"town": 0.22, "suburb": 0.5, "open": 0.6}[place])
    if avenue:
        spacing = dice.uniform(7.0, 18.0)
        u = side.kerb + (side.verge / 2 if side.verge else 0.6)
        if side.front - side.kerb - side.verge - side.pavement > 2.5 and dice.chance(0.5):
            u = side.kerb + side.verge + side.pavement + 1.2
        s = dice.uniform(5.0, 20.0)
        while s < min(end, 110):
            things.append(_tree(dice, sign * u, s, dice.pick(trees), behind=False))
            s += spacing * dice.uniform(0.7, 1.4)
    garden = side.front - side.kerb - side.verge - side.pavement
    if garden > 2.0:
        for _ in range(dice.integer(0, 7)):
            u = side.front - dice.random() * (garden - 0.8)
            s = 4.0 + 60 * dice.random()
            if dice.chance(0.6):
                things.append(Tree(sign * u, s, 0.0, dice.uniform(0.5, 1.5), "bush", False, dice.seed()))
            else:
                things.append(_tree(dice, sign * u, s, dice.pick(trees), behind=False))
    for _ in range(dice.integer(0, 4)):
        u = side.front + dice.uniform(4.0, 14.0)
        things.append(_tree(dice, sign * u, dice.uniform(5.0, 80.0), dice.pick(trees), behind=True))
    return things


def _furniture(dice: Dice, side: Side, sign: int, place: str, end: float) -> list[Thing]:
    things: list[Thing] = []
    inner = side.kerb + dice.uniform(0.3, 0.7)
    if dice.chance(0.8):
        height, spacing = dice.uniform(4.5, 9.0), dice.uniform(16.0, 34.0)
        s = dice.uniform(5.0, 20.0)
        while s < min(end, 150):
            things.append(Post(sign * inner, s, height, "lamp", -sign, dice.seed()))
            s += spacing * dice.uniform(0.9, 1.1)
    for _ in range(dice.integer(1, 4)):
        kind = dice.pick(("sign", "sign", "sign", "lights", "mast", "banner", "board", "bin"))
        s = 5.0 + 50.0 * dice.random() ** 1.5
        height = {"sign": 2.6, "lights": 3.0, "mast": 7.0, "banner": 5.0, "board": 2.0, "bin": 1.0}[kind]
        u = inner if kind != "board" else side.kerb + side.verge + side.pavement - 0.4
        things.append(Post(sign * u, s, height * dice.uniform(0.85, 1.25), kind, -sign, dice.seed()))
    if dice.chance(0.14):
        s, count, spacing = dice.uniform(4.0, 25.0), dice.integer(3, 12), dice.uniform(1.3, 2.5)
        height, seed = dice.uniform(0.8, 1.1), dice.seed()
        things.extend(Post(sign * inner, s + k * spacing, height, "bollard", -sign, seed) for k in range(count))
    if dice.chance(0.16):
        s, count = dice.uniform(3.0, 30.0), dice.integer(4, 14)
        kind, seed = dice.pick(("railing", "railing", "guard")), dice.seed()
        u = sign * (side.kerb + 0.25)
        things.extend(Barrier(u, s + 2 * k, u, s + 2 * k + 2, 1.1, kind, seed) for k in range(count))
    return things


def fill_side(dice: Dice, side: Side, sign: int, place: str, gap: Crossing | None, end: float | None) -> list[Thing]:
    """Line one side of the street (``sign`` -1 left, +1 right) as far as it goes."""
    trees = _season(dice)
    far = min(end, 170.0) if end is not None else 170.0
    return [
        *_fronts(dice, side, sign, place, gap, far, trees),
        *_greens(dice, side, sign, place, far, trees),
        *_furniture(dice, side, sign, place, far),
    ]


def close_end(dice: Dice, place: str, end: float) -> list[Thing]:
    """Line the far side of the T junction in which the street ends."""
    trees = _season(dice)
    things: list[Thing] = []
    u, s = -70.0, end + dice.uniform(9.0, 14.0)
    while u < 70.0:
        width = dice.uniform(6.0, 16.0)
        if dice.chance(0.75):
            things.append(_building(dice, place, u, s, u + width, s, 0, True))
        else:
            things.append(_tree(dice, u + width / 2, s, dice.pick(trees), behind=False))
        u += width + (0.0 if dice.chance(0.5) else dice.uniform(0.0, 5.0))
    return things
