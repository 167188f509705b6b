"""Portraits of people who do not exist, rendered from a description with NumPy and Pillow.

Not part of what a client needs: the page carries the finished pictures in ``viewer/portraits``.
``python -m client.portraits`` makes them again, pixel for pixel.
"""
