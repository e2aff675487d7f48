"""How default taps are chosen among the layers of a network."""

import math
from collections.abc import Sequence


def spread(names: Sequence[str], number: int) -> tuple[str, ...]:
    """So many of the names at even distances, the last one among them; all of them where there are no more.

    Args:
        names: names of layers in their order, at least one.
        number: how many are chosen, 1 or more. The k-th is at k / number of the way, rounded up.
    """
    places = [math.ceil(len(names) * part / number) - 1 for part in range(1, number + 1)]
    return tuple(names[place] for place in dict.fromkeys(places))
