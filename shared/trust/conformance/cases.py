"""The list of cases: functions whose names say what must hold."""

CASES = []


def case(*parameters, **named):
    """Adds a function as a case, once per parameter if there are any."""
    labelled = [(str(parameter), parameter) for parameter in parameters]
    labelled += [(label.replace("_", " "), parameter) for label, parameter in named.items()]

    def add(function):
        name = function.__name__.replace("_", " ")
        if not labelled:
            CASES.append((name, function, []))
        for label, parameter in labelled:
            CASES.append((f"{name} [{label}]", function, [parameter]))
        return function

    return add
