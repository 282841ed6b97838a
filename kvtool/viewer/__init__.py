"""The live viewer: what a run holds of a picture, under the pointer.

`Viewer` answers requests by name; the server (kvtool.viewer.server) hands them on from a browser,
the widget (kvtool.viewer.widget) from a notebook, and one ES module (kvtool.web) asks them in both.
"""
