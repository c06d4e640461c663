"""Objects of the application that refuse new attributes."""


class Strict:
    """An object of the application: new attributes are refused, as PythonQt refuses them on C++ objects."""

    def __setattr__(self, name, value):
        if not name.startswith("_") and not hasattr(type(self), name):
            raise AttributeError(f"Attribute '{name}' of {type(self).__name__} does not exist")
        super().__setattr__(name, value)
