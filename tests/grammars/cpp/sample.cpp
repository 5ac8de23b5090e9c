// A file that uses most of what the language has.
#include <string>
#include <vector>

namespace shapes {

template <typename T>
class Box : public std::vector<T> {
public:
    explicit Box(std::string name) : name_(std::move(name)) {}

    auto total() const -> double {
        double sum = 0;
        for (const auto &item : *this) {
            sum += [&](double scale) { return item * scale; }(2.0);
        }
        return sum;
    }

private:
    std::string name_;
};

} // namespace shapes

int main() {
    shapes::Box<int> box("it's \"(");
    try {
        box.push_back('(');
    } catch (const std::exception &error) {
        return 1;
    }
    return box.total() > 0 ? 0 : 1;
}
