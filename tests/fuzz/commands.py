from tests.fuzz.kind import Kind
class Commands(Kind):
    name = "commands"
    share = 0.1
