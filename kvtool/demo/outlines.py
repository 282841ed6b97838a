"""The table of shapes: for each category its pieces, a line each, from back to front.

A line holds the kind of the piece, the part it belongs to, its shade, and numbers. Lengths are
hundredths of the side of the unit box, from -50 to 50, with x to the right and y down:

    polygon  x y of each corner
    box      x y of the upper left corner, x y of the lower right one
    bar      x y of one end, x y of the other, and the width of the stroke
    ellipse  x y of the center, one or two radii, and a turn (`35°`) if there is one
    petals   x y of the center of a wreath of six discs, its radius, and the radius of a disc
"""

OUTLINES: dict[str, str] = {
    # Animals.
    "bird": """
        polygon  tail          dark   -50 -2  -20 2  -22 16  -46 16
        bar      leg           ink    0 20  0 46  6
        ellipse  body          main   -3 8  28 19  -15°
        polygon  wing          dark   -14 -2  10 2  0 20  -32 -36
        ellipse  head          main   24 -14  14
        polygon  beak          ink    36 -20  50 -12  36 -6
    """,
    "butterfly": """
        ellipse  upper-wing    main   -25 -20  25 19  35°
        ellipse  upper-wing    main   25 -20  25 19  -35°
        ellipse  lower-wing    light  -19 22  18 15  -45°
        ellipse  lower-wing    light  19 22  18 15  45°
        bar      antenna       ink    -2 -30  -14 -50  4
        bar      antenna       ink    2 -30  14 -50  4
        ellipse  body          ink    0 5  5.5 32
        ellipse  head          ink    0 -28  8
    """,
    "cat": """
        polygon  ear           dark   -40 -46  -8 -28  -36 -4
        polygon  ear           dark   40 -46  8 -28  36 -4
        ellipse  head          main   0 6  42 36
        ellipse  eye           paper  -17 -4  9
        ellipse  eye           paper  17 -4  9
        polygon  nose          ink    -7 12  7 12  0 20
        bar      whisker       ink    -16 18  -50 10  3
        bar      whisker       ink    16 18  50 10  3
        ellipse  mouth         light  0 28  13 6
    """,
    "crab": """
        bar      leg           dark   -20 14  -42 36  7
        bar      leg           dark   20 14  42 36  7
        bar      leg           dark   -10 18  -20 42  7
        bar      leg           dark   10 18  20 42  7
        bar      arm           dark   -22 2  -40 -20  8
        bar      arm           dark   22 2  40 -20  8
        polygon  claw          main   -40 -12  -50 -30  -44 -46  -38 -30  -26 -42  -26 -22
        polygon  claw          main   40 -12  50 -30  44 -46  38 -30  26 -42  26 -22
        ellipse  body          main   0 10  32 18
        ellipse  eye           paper  -10 -10  7
        ellipse  eye           paper  10 -10  7
    """,
    "fish": """
        polygon  tail          dark   -22 0  -50 -26  -42 0  -50 26
        polygon  fin           dark   -6 -16  16 -20  -8 -36
        ellipse  body          main   8 0  36 22
        polygon  belly         light  -4 12  20 13  8 21
        polygon  mouth         ink    36 0  48 5  36 10
        ellipse  eye           paper  27 -7  6
    """,
    "rabbit": """
        ellipse  ear           main   -2 -30  7 20  -12°
        ellipse  ear           dark   14 -30  7 20  14°
        ellipse  tail          paper  -36 24  11
        ellipse  body          main   -10 22  28 24
        ellipse  foot          light  8 43  18 6
        ellipse  head          main   12 -6  18 16
        ellipse  eye           ink    18 -9  4.5
    """,
    "snail": """
        polygon  body          light  -50 36  -30 24  20 24  30 0  44 2  42 36
        bar      antenna       ink    38 4  48 -20  5
        bar      antenna       ink    33 4  32 -22  5
        ellipse  shell         main   -8 2  30 30
        ellipse  spiral        dark   -6 4  15
        ellipse  centre        paper  -6 4  6
        ellipse  head          light  38 8  10
    """,
    "turtle": """
        polygon  tail          light  -38 12  -50 24  -34 22
        box      leg           light  -32 14  -16 40
        box      leg           light  8 14  24 40
        polygon  shell         main   -42 20  -36 -10  -20 -28  4 -28  20 -10  28 20
        box      rim           dark   -42 14  28 22
        ellipse  head          light  38 4  13 11
        ellipse  eye           ink    42 1  3.5
    """,
    # Plants and tools.
    "flower": """
        bar      stem          ink    0 0  0 50  6
        ellipse  leaf          dark   14 34  15 6  -30°
        petals   petal         main   0 -20  22  14
        ellipse  centre        paper  0 -20  12
    """,
    "mushroom": """
        polygon  stem          paper  -11 0  11 0  15 44  -15 44
        ellipse  base          dark   0 44  22 6
        polygon  cap           main   -46 6  -38 -20  -18 -38  18 -38  38 -20  46 6
        box      rim           dark   -46 0  46 8
        ellipse  spot          paper  -16 -20  9
        ellipse  spot          paper  18 -16  8
    """,
    "tree": """
        polygon  trunk         ink    -8 10  8 10  10 50  -10 50
        polygon  bottom        main   -40 26  40 26  0 -10
        polygon  middle        main   -32 4  32 4  0 -28
        polygon  top           dark   -22 -16  22 -16  0 -50
    """,
    "bottle": """
        box      neck          light  -8 -36  8 -6
        box      cap           ink    -10 -50  10 -36
        polygon  body          main   -8 -12  8 -12  20 4  20 46  -20 46  -20 4
        box      label         paper  -20 12  20 32
        box      base          dark   -20 42  20 50
    """,
    "chair": """
        box      leg           dark   -28 10  -20 50
        box      leg           dark   22 10  30 50
        polygon  back          main   -34 -50  -20 -50  -18 6  -32 6
        polygon  seat          main   -34 2  34 2  34 16  -34 16
        bar      arm           ink    -22 -18  22 -18  7
        bar      post          ink    20 -18  20 4  6
    """,
    "cup": """
        ellipse  handle        dark   30 2  18 20
        ellipse  hole          paper  31 2  9 11
        polygon  body          main   -36 -26  26 -26  18 36  -28 36
        ellipse  rim           light  -5 -26  31 8
        ellipse  saucer        dark   -5 40  42 7
    """,
    "guitar": """
        bar      neck          ink    6 -6  34 -36  9
        polygon  head          dark   30 -42  40 -50  50 -38  40 -30
        ellipse  bottom        main   -20 22  27 25
        ellipse  top           main   0 0  18 17
        ellipse  hole          ink    -8 9  8
        bar      bridge        paper  -32 20  -20 34  7
    """,
    "key": """
        bar      shaft         main   -10 0  48 0  12
        box      tooth         dark   36 0  46 24
        box      notch         dark   18 0  27 20
        ellipse  ring          main   -26 0  24
        ellipse  hole          paper  -28 0  11
    """,
    "lamp": """
        bar      stand         ink    0 -10  0 40  6
        ellipse  base          dark   0 42  24 8
        ellipse  bulb          paper  0 2  10
        polygon  shade         main   -18 -48  18 -48  38 0  -38 0
        box      rim           dark   -38 -5  38 2
    """,
    "umbrella": """
        bar      stick         ink    0 -10  0 40  5
        polygon  handle        ink    0 36  0 50  -20 50  -20 38  -14 38  -14 44  -5 44
        polygon  left-panel    dark   0 -40  -26 -28  -50 4  -34 -3  -18 4  0 0
        polygon  right-panel   dark   0 -40  26 -28  50 4  34 -3  18 4  0 0
        polygon  middle-panel  main   0 -40  20 -18  18 4  0 -2  -18 4  -20 -18
        bar      tip           ink    0 -38  0 -50  5
    """,
    # Vehicles and buildings.
    "boat": """
        bar      mast          ink    0 -46  0 20  5
        polygon  big-sail      main   4 -46  40 12  4 12
        polygon  small-sail    light  -4 -34  -30 12  -4 12
        polygon  hull          dark   -46 18  48 18  32 42  -32 42
        polygon  bow           ink    34 18  50 18  34 40
    """,
    "car": """
        polygon  roof          main   -26 -2  -16 -24  14 -24  26 -2
        polygon  window        paper  -18 -3  -12 -17  10 -17  18 -3
        polygon  body          main   -50 -2  38 -2  50 6  50 20  -50 20
        ellipse  back-wheel    ink    -27 20  13
        ellipse  front-wheel   ink    27 20  13
        ellipse  light         paper  46 7  5
    """,
    "house": """
        box      chimney       ink    16 -46  28 -14
        box      wall          main   -34 -6  34 46
        polygon  roof          dark   -48 -6  48 -6  0 -46
        box      door          ink    -22 14  -4 46
        box      window        paper  6 8  26 26
    """,
    "kite": """
        polygon  top           main   0 -50  28 -20  0 -20
        polygon  top           light  0 -50  -28 -20  0 -20
        polygon  bottom        light  28 -20  0 16  0 -20
        polygon  bottom        main   -28 -20  0 16  0 -20
        bar      string        ink    0 14  8 30  4
        polygon  bow           dark   6 28  20 20  20 36
        bar      string        ink    8 30  -4 44  4
        polygon  tail          dark   -4 44  -20 36  -20 50
    """,
    "plane": """
        polygon  tail          dark   -48 -30  -36 -30  -24 -2  -44 -2
        polygon  far-wing      dark   6 -6  -16 -32  -4 -32  20 -6
        ellipse  body          main   2 0  46 11
        ellipse  nose          light  43 0  7 7
        polygon  near-wing     dark   10 2  -14 40  -30 40  -10 2
        polygon  window        paper  26 -7  36 -4  36 1  26 1
    """,
    "rocket": """
        polygon  flame         paper  -10 30  10 30  0 50
        polygon  left-fin      dark   -14 6  -34 36  -14 30
        polygon  right-fin     dark   14 6  34 36  14 30
        polygon  body          main   -15 -24  15 -24  16 30  -16 30
        polygon  nose          dark   -15 -22  0 -50  15 -22
        ellipse  window        paper  0 -6  8
    """,
}
