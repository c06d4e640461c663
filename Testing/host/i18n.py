"""The contents of ``slicer.i18n``: translations as Base/Python/slicer/i18n.py gives them."""

import functools
import inspect
import logging
import os
import re


def _placeholders(text):
    """Names in braces; doubled braces are plain text."""
    return {match for match in re.findall(r"\{+[^{}]+\}+", text) if not match.startswith("{{")}


def translate(context, text):
    try:
        from slicer import app
    except ImportError:
        return text
    return app.translate(context, text)


def getContext(sourceFile):
    """The file's name, with its package's name in front if it is in a package."""
    if not os.path.isfile(sourceFile):
        return os.path.basename(sourceFile)
    folder, name = os.path.split(sourceFile)
    context = name.replace(".py", "")
    if os.path.isfile(os.path.join(folder, "__init__.py")):
        context = f"{os.path.basename(folder)}.{context}"
    return context


@functools.cache
def _context_of(code):
    """Of the file that the code is in, which is looked up once: panels translate thousands of texts."""
    return getContext(inspect.getsourcefile(code) or inspect.getfile(code))


def tr(text):
    """A translation that lost or changed a placeholder is not used."""
    caller = inspect.currentframe().f_back
    context = _context_of(caller.f_code)
    translated = translate(context, text)
    if _placeholders(text) != _placeholders(translated):
        logging.warning("Translation of '%s' to '%s' in '%s' does not keep its placeholders", text, translated, context)
        return text
    return translated
