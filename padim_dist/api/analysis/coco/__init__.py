"""Regions as polygons, in a COCO file."""
