"""Colours of figures that colour-blind readers can tell apart.

Okabe and Ito, 2008, https://jfly.uni-koeln.de/color/, with grey in place of their yellow, which
is too light for a line.
"""

BLACK = "#000000"
ORANGE = "#E69F00"
SKY_BLUE = "#56B4E9"
GREEN = "#009E73"
VERMILION = "#D55E00"
BLUE = "#0072B2"
PURPLE = "#CC79A7"
GREY = "#999999"

OKABE_ITO = (BLACK, ORANGE, SKY_BLUE, GREEN, VERMILION, BLUE, PURPLE, GREY)
"""In the order in which lines take them."""
