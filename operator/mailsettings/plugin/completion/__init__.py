"""`kubectl mailsettings completion`: what can be typed next, for shells and for kubectl.

Scripts for shells ask the plugin itself, through the hidden command `__complete`, which answers as kubectl wants it of
plugins: one word in a line, with a tab before what it means, and last a colon with a number.
Source: kubectl 1.26 and newer, `kubectl_complete-<plugin>`; cobra, ShellCompDirective.
"""
